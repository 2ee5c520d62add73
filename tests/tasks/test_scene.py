"""Distances to obstacles, against a loop that does it the long way."""

import numpy as np
import pytest
import torch

from onestride.tasks.kinova.scene import ABSENT, BOX, FAR, SPHERE, Scene, signed_distance


def naive(point: np.ndarray, obstacles: np.ndarray) -> float:
    best = FAR
    for kind, *rest in obstacles:
        center, half, yaw = np.array(rest[:3]), np.array(rest[3:6]), rest[6]
        offset = point - center
        if kind == SPHERE:
            best = min(best, float(np.linalg.norm(offset)) - half[0])
        if kind == BOX:
            turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
            q = np.abs(turn @ offset) - half
            best = min(best, float(np.linalg.norm(np.maximum(q, 0)) + min(q.max(), 0.0)))
    return best


def random_obstacles(rng: np.random.Generator, k: int = 4) -> np.ndarray:
    kinds = rng.integers(0, 3, (k, 1)).astype(float)
    return np.concatenate(
        (kinds, rng.uniform(-0.3, 0.3, (k, 3)), rng.uniform(0.02, 0.2, (k, 3)), rng.uniform(0, 3, (k, 1))), 1
    )


def test_against_the_naive_loop():
    rng = np.random.default_rng(0)
    obstacles = np.stack([random_obstacles(rng) for _ in range(20)])
    points = rng.uniform(-0.6, 0.6, (20, 50, 3))
    fast = signed_distance(torch.from_numpy(points), torch.from_numpy(obstacles)).numpy()
    slow = np.array([[naive(p, o) for p in row] for row, o in zip(points, obstacles, strict=True)])
    np.testing.assert_allclose(fast, slow, atol=2e-6)
    assert (slow < 0).any()  # some points are inside: the negative branch is tested too


def test_without_a_batch_axis_and_when_nothing_is_there():
    points = torch.zeros(5, 3)
    assert torch.equal(signed_distance(points, torch.zeros(4, 8)), torch.full((5,), FAR))
    row = torch.tensor([[SPHERE, 0.5, 0, 0, 0.1, 0, 0, 0], [ABSENT, 0, 0, 0, 9, 9, 9, 0]])
    torch.testing.assert_close(signed_distance(points, row), torch.full((5,), 0.4))


def test_gradient_points_away_from_the_nearest_surface():
    point = torch.tensor([[0.3, 0.0, 0.0]], requires_grad=True)
    signed_distance(point, torch.tensor([[SPHERE, 0.0, 0, 0, 0.1, 0, 0, 0]])).sum().backward()
    torch.testing.assert_close(point.grad, torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("name", ["start", "goal", "obstacles"])
def test_a_bad_scene_is_refused_by_the_name_of_what_is_wrong(name):
    parts = {"start": np.zeros(3), "goal": np.zeros(3), "obstacles": np.zeros((4, 8))}
    with pytest.raises(ValueError, match=rf"scene\.{name} has shape"):
        Scene(**{**parts, name: np.zeros(2)})
    parts[name] = parts[name] + np.nan
    with pytest.raises(ValueError, match=rf"scene\.{name} holds a non-finite"):
        Scene(**parts)
