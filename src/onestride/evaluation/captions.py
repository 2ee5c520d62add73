"""What stands under a table: over what its ± is, how many episodes there were, and what else its numbers rest on.

Every number is read from the table's record; none is typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onestride.evaluation.benchmark_figures import label, ordered
from onestride.evaluation.benchmark_report import ACTION_LEVEL, best_unselected
from onestride.evaluation.report import UNDEFINED, Row
from onestride.reports.style import label as arm_label
from onestride.reports.style import ordered as arm_ordered

DEVIATION = "the population standard deviation"
PAPER = "The paper's own ± are as it reports them."
ALONE = f"{UNDEFINED} where there is only one"


def trials(comparison: dict[str, Any]) -> str:
    """Under a table of the arm's trials."""
    rows = comparison["rows"]
    counts = ", ".join(f"{arm_label(row)} {rows[row]['success']['n']}" for row in arm_ordered(rows))
    seeds = len(comparison["seeds"]["training"])
    return f"±: {DEVIATION} over all trials of all training seeds ({counts}); students have {seeds} seeds."


def clouds(comparison: dict[str, Any]) -> str:
    """Under a table of what the arm's generators make."""
    rows = comparison["rows"]
    counts = ", ".join(f"{arm_label(row)} {rows[row]['candidate_spread_mm']['n']}" for row in arm_ordered(rows))
    sided = max((row["side_left"]["n"] for row in rows.values() if "side_left" in row), default=0)
    return (
        f"±: {DEVIATION} over the starts of all scenes and training seeds ({counts}); of sides, over those that are "
        f"open on both (at most {sided})."
    )


def returns(comparison: dict[str, Any]) -> str:
    """Under a table of returns."""
    rows, per_seed = comparison["rows"], comparison["config"]["evaluate"]["episodes"]
    seeds, decisions = _seeds(rows.values()), _counts(rows.values(), "decision_ms_mean")
    said = [
        f"±: {DEVIATION} over training seeds of each seed's mean ({seeds}; {ALONE}), {per_seed} episodes of each seed; "
        f"of latency, over {decisions} single decisions. sigma_ep: that over a seed's episodes, averaged over seeds.",
        *_engines(comparison),
    ]
    if names := " and ".join(label(row) for row in ordered(rows) if row in ACTION_LEVEL):
        better = ", ".join(label(row) for row in best_unselected(rows)) or "nowhere here"
        said.append(
            f"{names} ranked by Q: an argmax over candidates of one action rewards the critic's errors; where they "
            f"earn more without anybody who selects, that stands beside it ({better})."
        )
    return " ".join(said)


def generators(comparison: dict[str, Any]) -> str:
    """Under a table of what generators are worth by themselves."""
    per_seed, rows = comparison["config"]["evaluate"]["episodes"], comparison["rows"].values()
    return f"±: {DEVIATION} over training seeds ({_seeds(rows)}; {ALONE}); returns: {per_seed} episodes of each seed."


def numbers(comparison: dict[str, Any]) -> str:
    """Under a table of numbers of candidates and of steps."""
    decisions = _counts(comparison["rows"].values(), "decision_ms_mean")
    return f"{generators(comparison)} Of latency: over {decisions} single decisions."


def modes(record: dict[str, Any]) -> str:
    """Under a table of which behaviours candidates follow."""
    starts = record["config"]["starts"]
    seeds = _counts(record["rows"].values(), "followed")
    return f"±: {DEVIATION} over training seeds ({seeds}; {ALONE}), {starts} first states each."


def samplings(record: dict[str, Any]) -> str:
    """Under a table of ways to draw candidates."""
    seeds, episodes = len(record["seeds"]["training"]), record["config"]["episodes"]
    return f"±: {DEVIATION} over {seeds} training seeds, {episodes} episodes of each."


def latencies(record: dict[str, Any]) -> str:
    """Under a table of what the time of decisions does."""
    return f"{record['config']['scenes']} scenes each; ±: {DEVIATION} over the scenes in which the arm arrived."


def bench(record: dict[str, Any]) -> str:
    """Under a table of decisions' times."""
    config = record["config"]
    return (
        f"{config['rounds'] * config['burst']} decisions each. Engines take noise from a seeded bank that comes round "
        f"after {config['draws']} decisions; teacher and student draw theirs anew, which is part of their time."
    )


def _engines(comparison: dict[str, Any]) -> list[str]:
    draws = comparison["config"].get("engine", {}).get("draws")
    if draws is None or not any("engine" in row for row in comparison["rows"]):
        return []
    return [
        f"Engines take noise from a seeded bank that comes round after {draws} decisions; the others draw theirs anew."
    ]


def _seeds(rows: Iterable[Row]) -> str:
    return _counts(rows, "return_normalised")


def _counts(rows: Iterable[Row], metric: str) -> str:
    """Over how many a metric's deviation is, as said: "1 or 3"."""
    return " or ".join(map(str, sorted({row[metric]["n"] for row in rows if metric in row})))


def under(table: str, *said: str) -> str:
    """Return a Markdown table with these sentences below it."""
    return "\n\n".join((table, *said))


def like_with_like(comparisons: Mapping[str, dict[str, Any]]) -> str:
    """Under the table of DNK against its teacher."""
    protocols = sorted({c["config"]["evaluate"]["episodes"] for c in comparisons.values()})
    per_seed = " or ".join(map(str, protocols))
    return f"Ratios of mean returns. In brackets: episodes of DNK / of its teacher, {per_seed} of each training seed."
