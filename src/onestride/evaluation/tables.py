"""Put the tables of the committed results into the documents that show them: ``python -m onestride.evaluation.tables``.

A table in a document stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``; a test fails when one
and its JSON differ.
"""

from __future__ import annotations

from pathlib import Path

from onestride.checkpoint import read_json, write_atomically
from onestride.evaluation import report

RESULT = Path("results/kinova/comparison.json")
ON_WALL_TIME = Path("results/kinova-real/comparison.json")
DOCUMENT = Path("README.md")


def tables(root: Path) -> dict[str, str]:
    """Every table by its name, made from the JSON below ``root``."""
    comparison = read_json(root / RESULT)
    return {
        "kinova": report.table(comparison, paper=True),
        "kinova-candidates": report.generation_table(comparison),
        "kinova-real": report.table(read_json(root / ON_WALL_TIME)),
    }


def main(root: Path = Path()) -> None:
    """Write the tables into the document."""
    text = report.insert_tables((root / DOCUMENT).read_text(), tables(root))
    write_atomically(root / DOCUMENT, lambda p: p.write_text(text))


if __name__ == "__main__":
    main()
