"""What is measured of an evaluation's trials and candidates, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number of a row.

    name: its key in records and results. heading, unit, digits: in tables.
    kind: "number"; "percent", a number between 0 and 1 shown as percent; "share", of trials that a yes or no holds for.
    spread: whether its standard deviation says something that the mean does not.
    better: which direction is; None where neither is.
    """

    name: str
    heading: str
    unit: str = ""
    digits: int = 2
    kind: Literal["number", "percent", "share"] = "number"
    spread: bool = True
    better: Literal["higher", "lower"] | None = None


#: Of an episode in a benchmark of returns.
EPISODE = (
    Metric("return_normalised", "return", digits=4, better="higher"),
    Metric("return_raw", "return, not normalised", digits=1, better="higher"),
    Metric("fell", "fell", digits=0, kind="share", spread=False, better="lower"),
)
