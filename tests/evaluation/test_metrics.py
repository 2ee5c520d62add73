"""Metrics by hand."""

import numpy as np
import pytest
import torch

from onestride.evaluation.metrics import (
    blocking_obstacle,
    effective_dimensions,
    free_share,
    latency,
    sides,
    spread,
    summarize,
)


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


def test_spread_is_zero_for_equal_paths_and_the_offset_for_two():
    path, offset = np.zeros((1, 5, 3)), np.array([0.03, 0, 0])
    assert spread(np.repeat(path, 4, 0)) == 0.0
    assert spread(np.concatenate((path + offset, path - offset))) == pytest.approx(0.03)


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


def test_sides_are_counted_where_the_path_passes_the_obstacle():
    start, goal = np.array([0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0])  # moving along +y: left is -x
    obstacle = np.array([1.0, 0.0, 0.0, 0.0, 0.1, 0, 0, 0])
    u = np.linspace(-1, 1, 21)
    bump = np.exp(-((u / 0.3) ** 2))[:, None]
    line = np.stack((0 * u, u, 0 * u), 1)
    left, right, over = (line + bump * np.array(v) for v in ([-0.2, 0, 0.1], [0.2, 0, 0.1], [0.05, 0, 0.2]))
    assert sides(np.stack((left, left, right, over)), start, goal, obstacle).tolist() == [0.5, 0.25, 0.25]


def test_free_candidates_keep_the_tool_off():
    obstacles = np.zeros((4, 8))
    obstacles[0, :5] = [1.0, 0.0, 0.0, 0.0, 0.05]
    line = np.stack((np.linspace(-1, 1, 41), np.zeros(41), np.zeros(41)), 1)
    paths = np.stack([line + np.array([0, 0, z]) for z in (0.0, 0.07, 0.09, 0.2)])
    assert free_share(paths, obstacles) == 0.5


def test_the_blocking_obstacle_is_the_one_nearest_the_line():
    obstacles = np.zeros((4, 8))
    obstacles[1, :4] = [1.0, 0.3, 0.0, 0.0]
    obstacles[2, :4] = [2.0, 0.05, 0.2, 0.0]
    obstacles[3, :4] = [1.0, 0.0, 5.0, 0.0]  # on the line's extension, far behind the goal
    assert blocking_obstacle(np.array([0.0, -1, 0]), np.array([0.0, 1, 0]), obstacles) == 2
