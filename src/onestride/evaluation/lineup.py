"""Rows by their names, for readers that do not take ``row["variant"]`` yet. To be deleted with the last of them."""

from onestride.evaluation.entries import evaluation_variants as lineup
from onestride.evaluation.entries import policy_of

__all__ = ["RANKING", "SELECTORS", "lineup", "parts", "policy_of"]

SELECTORS = {
    "iql": "IQL",
    "engine": "IQL, engine",
    "int8": "IQL, engine in 8 bits",
    "mixture": "IQL, λ of training",
    "first": "IQL, first action",
    "classifier": "classifier",
    "unselected": "unselected",
}
RANKING = ("iql", "mixture", "first", "classifier")  # those that choose, without engines


def parts(row: str) -> tuple[str, str]:
    """Generator and selector of a row: teachers are ranked by the classifier, students by IQL, if nothing is said."""
    generator, _, selector = row.rpartition("-")
    if selector in SELECTORS:
        return generator, selector
    return row, "classifier" if row == "teacher" else "iql"
