"""How long it takes from starting Python to the first decision, and what of it each step takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onestride.evaluation.metrics import single
from onestride.evaluation.report import Column, markdown

COLUMNS = (
    Column("interpreter_s", "Python [s]", digits=2),
    Column("library_s", "library [s]", digits=2),
    Column("folder_s", "folder [s]", digits=2),
    Column("decision_s", "decision [s]", digits=3),
    Column("total_s", "to the first decision [s]", digits=2),
    Column("total_max_s", "slowest [s]", digits=2),
    Column("starts", "starts", digits=0),
)


def summary(moments: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Moments (starts, 4) [s] since the process was asked for -> a row's metrics, medians but for the slowest."""
    at = np.asarray(moments)
    parts = np.median(np.diff(at, axis=1, prepend=0.0), axis=0)
    names = ("interpreter_s", "library_s", "folder_s", "decision_s")
    return {name: single(float(part)) for name, part in zip(names, parts, strict=True)} | {
        "total_s": single(float(np.median(at[:, -1]))),
        "total_max_s": single(float(at[:, -1].max())),
        "starts": single(len(at)),
    }


def table(measured: dict[str, dict[str, Any]]) -> str:
    """A line per row of every record, as Markdown."""
    lines = [
        [f"{name} ({machine})", *(c.cell(row) for c in COLUMNS)]
        for machine, record in measured.items()
        for name, row in record["rows"].items()
    ]
    return markdown([["", *(c.heading for c in COLUMNS)], *lines])
