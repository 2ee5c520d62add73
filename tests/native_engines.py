"""Native engines beside the decisions that they were made of."""

from __future__ import annotations

import numpy as np
import torch

from onestride.engine.native import NativeRunner
from onestride.engine.program import write_program


def native_of(folded, threads=1):
    return NativeRunner(write_program(folded), threads)


def agree(runner, folded, count=40, atol=1e-5, rows=None):
    if rows is None:
        rows = np.random.default_rng(0).normal(size=(count, folded.control.observation_dim))
    for i, row in enumerate(rows.astype(np.float32)):
        draw = i % folded.draws
        wanted, found = folded(torch.from_numpy(row), torch.tensor([draw])), runner.run(row, draw)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-5, rtol=1e-5)
        assert found.score == found.scores[found.winner] == found.scores.max()
        if found.winner == int(wanted.winner):
            np.testing.assert_allclose(found.action, wanted.action, atol=atol)
        else:
            assert wanted.score - wanted.scores[found.winner] <= 1e-4 * wanted.scores.std() + 1e-6
        if wanted.plan is None:
            assert found.plan is None
        elif found.winner == int(wanted.winner):
            np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)
