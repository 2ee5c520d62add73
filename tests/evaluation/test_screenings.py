"""Screened decisions beside the same in float32."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onestride.evaluation.screenings import compare, table


def test_winners_and_candidates_in_float32_are_counted():
    exact = np.array([1.0, 3.0, 2.0, 0.0], np.float32)
    given = []

    def runner(change, settled=4):
        def run(observation, draw):
            given.append((observation.dtype, draw))
            scores = change(exact.copy(), int(observation[0]))
            return SimpleNamespace(scores=scores, winner=int(scores.argmax()))

        return SimpleNamespace(run=run, settled=settled)

    def screened(scores, number):
        scores[number] += 0.5  # of the third decision it wins
        return scores

    observations = np.arange(4.0)[:, None]
    observations[2] = 2
    row = compare(runner(lambda scores, _: scores), runner(screened, 3), observations, draws=3)
    assert [draw for _, draw in given] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert {dtype for dtype, _ in given} == {np.dtype(np.float32)}
    assert {name: value["mean"] for name, value in row.items()} == {
        "decisions": 4, "other_winners": 0, "lost_max": 0,
        "in_float32_mean": 3, "in_float32_p99": 3, "in_float32_max": 3,
    }  # fmt: skip
    row = compare(runner(lambda scores, _: scores), runner(lambda scores, n: scores * (-1) ** n), observations, draws=3)
    assert (row["other_winners"]["mean"], row["in_float32_max"]["mean"]) == (2, 4)
    assert row["lost_max"]["mean"] == pytest.approx(3 / exact.std())
    lines = table({"a": {"rows": {"arm": row}}, "b": {"rows": {"cheetah": row}}}).splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [["| arm", "4", "2"], ["| cheetah", "4", "2"]]
