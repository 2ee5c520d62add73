"""Distances to obstacles: many at once against one by one, and one by one against what is known."""

import numpy as np
import pytest
import torch

from onestride.tasks.distance import signed_distance
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.obstacles import ABSENT, BOX, FAR, PILLAR, SPHERE, distance


def random_obstacles(rng: np.random.Generator, k: int = 4) -> np.ndarray:
    kinds = rng.integers(0, 4, (k, 1)).astype(float)
    return np.concatenate(
        (kinds, rng.uniform(-0.3, 0.3, (k, 3)), rng.uniform(0.02, 0.2, (k, 3)), rng.uniform(0, 3, (k, 1))), 1
    )


def test_many_at_once_against_one_by_one():
    rng = np.random.default_rng(0)
    obstacles = np.stack([random_obstacles(rng) for _ in range(20)])
    points = rng.uniform(-0.6, 0.6, (20, 50, 3))
    fast = signed_distance(torch.from_numpy(points), torch.from_numpy(obstacles)).numpy()
    slow = np.array([[distance(p, o) for p in row] for row, o in zip(points, obstacles, strict=True)])
    np.testing.assert_allclose(fast, slow, atol=2e-6)
    assert (slow < 0).any()  # some points are inside: the negative branch is tested too


@pytest.mark.parametrize(
    ("point", "wanted"),
    [
        ((0.5, 0.0, 0.0), 0.4),  # from the ball of radius 0.1 about the origin
        ((0.0, 0.03, 0.04), -0.05),  # within it
        ((3.0, 0.0, 0.05), 0.5),  # from the box's edge, which its turn by 45 degrees has brought to x = 2.5
        ((2.25 + 0.4 / 2**0.5, 0.25 + 0.4 / 2**0.5, 0.1 + 0.3), 0.5),  # outward from the middle of a face, and up
        ((2.0, 0.0, 0.07), -0.03),  # within the box, its lid is nearest
        ((0.0, 0.0, 9.0), FAR),
    ],
)
def test_the_distance_of_one_point_is_the_known_one(point, wanted):
    side = 0.5 / 2**0.5
    rows = [[SPHERE, 0, 0, 0, 0.1, 9, 9, 0], [BOX, 2, 0, 0, side, side, 0.1, np.pi / 4], [ABSENT, *point, 9, 9, 9, 0]]
    assert distance(np.array(point), np.array(rows)) == pytest.approx(wanted, abs=1e-4)


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


def test_a_pillar_is_a_cylinder_between_its_ends():
    row = np.array([[PILLAR, 0.5, -0.2, 0.8, 0.15, 0.15, 0.8, 0.0]])
    rng = np.random.default_rng(1)
    points = rng.uniform((-0.4, -1.0, 0.0), (1.4, 0.6, 1.6), (200, 3))
    wanted = np.hypot(points[:, 0] - 0.5, points[:, 1] + 0.2) - 0.15
    many = signed_distance(torch.from_numpy(points), torch.from_numpy(row)).numpy()
    np.testing.assert_allclose(many, wanted.clip(max=FAR), atol=2e-6)
    np.testing.assert_allclose([distance(p, row) for p in points], wanted.clip(max=FAR), atol=1e-12)
    assert (wanted < 0).any()
