"""Metrics by hand."""

import numpy as np
import pytest
import torch

from onestride.evaluation.metrics import effective_dimensions, latency, summarize


def test_summary_pools_trials_and_keeps_seeds_apart():
    s = summarize([1.0, 3.0, None, 8.0], [0, 0, 1, 1])
    assert s["mean"] == pytest.approx(4.0)
    assert s["std"] == pytest.approx(np.std([1, 3, 8]))
    assert (s["n"], s["per_seed"]) == (3, [2.0, 8.0])
    assert summarize([None], [0]) == {"mean": None, "std": None, "n": 0, "per_seed": []}


def test_latency_is_in_milliseconds_and_empty_is_unknown():
    ms = latency([0.001 * i for i in range(1, 101)])
    assert ms["decision_ms_mean"] == pytest.approx(50.5)
    assert ms["decision_ms_p50"] == pytest.approx(50.5)
    assert ms["decision_ms_p95"] == pytest.approx(95.05)
    assert ms["decision_ms_max"] == pytest.approx(100.0)
    assert set(latency([]).values()) == {None}


@pytest.mark.slow
def test_effective_dimensions_of_a_point_a_line_a_plane_and_a_round_cloud():
    point = torch.full((64, 6), 3.0)
    line = torch.linspace(-1, 1, 64)[:, None] * torch.randn(6) + 5
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    plane = torch.cat((corners, torch.zeros(4, 4)), 1)
    assert effective_dimensions(point) == 0
    assert effective_dimensions(line) == pytest.approx(1)
    assert effective_dimensions(plane) == pytest.approx(2)
    batch = torch.stack((torch.randn(5000, 6), torch.randn(5000, 6) * torch.tensor([10.0, 1, 1, 1, 1, 1])))
    by_covariance = [float(v.sum() ** 2 / v.square().sum()) for v in (torch.linalg.eigvalsh(x.T.cov()) for x in batch)]
    assert effective_dimensions(batch).tolist() == pytest.approx(by_covariance, rel=1e-4)
    assert by_covariance[0] == pytest.approx(6, rel=0.02)
