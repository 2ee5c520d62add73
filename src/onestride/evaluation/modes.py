"""How well candidates cover behaviours that are known: which of them does each one follow?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from onestride.evaluation.benchmark_figures import label, ordered
from onestride.evaluation.metrics import over_seeds
from onestride.evaluation.report import Column, Row, markdown

WHOLE_NOISE = "teacher, whole noise"  # the row of a teacher whose candidates' noise is not scaled
COLUMNS = (
    Column("followed", "follow the better behaviour", digits=1, percent=True),
    Column("starts_without", "first states without such a candidate", digits=1, percent=True),
    Column("followed_at_0.3", "follow it, λ = 0.3", digits=1, percent=True),
    Column("followed_at_0.5", "λ = 0.5", digits=1, percent=True),
    Column("followed_at_0.7", "λ = 0.7", digits=1, percent=True),
    Column("followed_at_1", "λ = 1", digits=1, percent=True),
    Column("mode_distance", "distance from the nearer behaviour", digits=3),
)


def coverage(actions: Tensor, modes: Tensor, temperature: Tensor) -> dict[str, float]:
    """How often the first of the modes is followed.

    actions (B, N, A): of candidates. modes (K, B, A): what each behaviour would do. temperature (N,): of the noise of
    each candidate. Returns the share of candidates nearest to modes[0], by temperature too where there are several;
    the share of the B states in which no candidate is; the root mean square distance from the nearest mode, averaged.
    """
    distance = (actions - modes[:, :, None]).square().mean(-1).sqrt()  # (K, B, N)
    followed = (distance.argmin(0) == 0).float()
    made = {
        "followed": float(followed.mean()),
        "starts_without": float((followed.sum(1) == 0).float().mean()),
        "mode_distance": float(distance.amin(0).mean()),
    }
    several = temperature.unique().tolist()
    if len(several) > 1:
        made |= {f"followed_at_{t:g}": float(followed[:, temperature == t].mean()) for t in several}
    return made


def summary(per_seed: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Metrics of one row over its training seeds."""
    return {name: over_seeds([measured[name] for measured in per_seed]) for name in per_seed[0]}


def table(measured: dict[str, Any]) -> str:
    """A line per planner, as Markdown."""
    rows: dict[str, Row] = measured["rows"]
    names = {WHOLE_NOISE: "Teacher, λ = 1"} | {row: label(row) for row in ordered(rows.keys() - {WHOLE_NOISE})}
    lines = [[names[row], *(c.cell(rows[row]) for c in COLUMNS)] for row in names if row in rows]
    return markdown([["", *(c.heading for c in COLUMNS)], *lines])
