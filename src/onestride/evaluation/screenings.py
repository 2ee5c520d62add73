"""Screened decisions beside the same in float32: who wins, and how many candidates float32 had to compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from onestride.engine.native import NativeRunner
from onestride.engine.runners import Runner
from onestride.evaluation.metrics import single
from onestride.evaluation.report import Column, markdown
from onestride.progress import track

COLUMNS = (
    Column("decisions", "decisions", digits=0, yes_or_no=True),
    Column("other_winners", "other winners", digits=0, yes_or_no=True),
    Column("lost_max", "worth less by [spread of the candidates]", digits=2, yes_or_no=True),
    Column("in_float32_mean", "candidates in float32", digits=1, yes_or_no=True),
    Column("in_float32_p99", "p99", digits=0, yes_or_no=True),
    Column("in_float32_max", "most", digits=0, yes_or_no=True),
)


def compare(exact: Runner, screened: NativeRunner, observations: np.ndarray, draws: int) -> dict[str, Any]:
    """Metrics of the same decisions (observations (B, observation_dim)) by both; draw i modulo ``draws`` for the i-th.

    exact: all of its scores are. Another winner counts whatever its score, and how much less it is worth, in standard
    deviations of the candidates' scores.
    """
    others, lost, again = 0, [0.0], []
    with track("deciding twice", len(observations)) as bar:
        for i, observation in enumerate(observations.astype(np.float32)):
            wanted = exact.run(observation, i % draws)
            scores, winner = wanted.scores.copy(), wanted.winner
            found = screened.run(observation, i % draws)
            if found.winner != winner:
                others += 1
                lost.append(float((scores[winner] - scores[found.winner]) / scores.std()))
            again.append(screened.settled)
            bar.update(i + 1)
    return {
        "decisions": single(len(again)),
        "other_winners": single(others),
        "lost_max": single(max(lost)),
        "in_float32_mean": single(float(np.mean(again))),
        "in_float32_p99": single(float(np.quantile(again, 0.99))),
        "in_float32_max": single(max(again)),
    }


def table(measured: dict[str, dict[str, Any]]) -> str:
    """A line per row of every record, as Markdown."""
    lines = [
        [name, *(c.cell(row) for c in COLUMNS)] for record in measured.values() for name, row in record["rows"].items()
    ]
    return markdown([["", *(c.heading for c in COLUMNS)], *lines])
