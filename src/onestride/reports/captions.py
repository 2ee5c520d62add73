"""What stands under tables of several studies: over what a ± is, and how engines draw. Numbers are the records'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onestride.reports.table import UNDEFINED, Row

DEVIATION = "±: the population standard deviation"
PAPER = "The paper's own ± are as it reports them."
ALONE = f"{UNDEFINED} where there is only one"
BANK = "Engines take noise from a seeded bank that comes round after {draws} decisions; {others}"


def over_seeds(rows: Iterable[Row], metric: str = "return_normalised") -> str:
    """Return over how many training seeds a metric's deviation is."""
    return f"{DEVIATION} over training seeds ({counts(rows, metric)}; {ALONE})"


def counts(rows: Iterable[Row], metric: str) -> str:
    """Return over how many values a metric's deviation is: "1 or 3"."""
    return " or ".join(map(str, sorted({row[metric]["n"] for row in rows if metric in row})))


def generators(comparison: dict[str, Any]) -> str:
    """Return what stands under a table of what generators are worth by themselves."""
    episodes = comparison["config"]["evaluate"]["episodes"]
    return f"{over_seeds(comparison['rows'].values())}; returns: {episodes} episodes of each seed."
