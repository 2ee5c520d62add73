"""Ways to draw candidates beside each other: what is earned, and how often an episode is a poor one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onestride.evaluation.metrics import over_seeds, single
from onestride.evaluation.report import Column, markdown

POOR = 0.9  # normalised return of an episode
NAMES = {"own": "as the critic has it", "lowest": "a margin for all but the lowest λ"}
COLUMNS = (
    Column("return_normalised", "return", digits=4),
    Column("median", "median episode", digits=4),
    Column("poor", f"episodes below {POOR}", digits=0, yes_or_no=True),
    Column("episodes", "of", digits=0, yes_or_no=True),
)


def summary(per_seed: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Normalised returns of every training seed's episodes -> a row's metrics."""
    every = np.concatenate([np.asarray(returns) for returns in per_seed])
    return {
        "return_normalised": over_seeds([float(np.mean(returns)) for returns in per_seed]),
        "median": over_seeds([float(np.median(returns)) for returns in per_seed]),
        "poor": single(int((every < POOR).sum())),
        "episodes": single(len(every)),
    }


def table(measured: dict[str, Any]) -> str:
    """A line per way, as Markdown."""
    lines = [[NAMES[name], *(c.cell(row) for c in COLUMNS)] for name, row in measured["rows"].items()]
    return markdown([["", *(c.heading for c in COLUMNS)], *lines])
