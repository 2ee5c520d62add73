"""What is measured of the arm's candidates, by hand."""

import numpy as np
import pytest

from onestride.tasks.candidate_paths import free_share
from onestride.tasks.kinova.measures import METRICS, blocking_obstacle, measure_candidates, sides
from onestride.tasks.kinova.scene import Scene


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
    assert free_share(paths, obstacles, 0.03) == 0.5


def test_the_blocking_obstacle_is_the_one_nearest_the_line():
    obstacles = np.zeros((4, 8))
    obstacles[1, :4] = [1.0, 0.3, 0.0, 0.0]
    obstacles[2, :4] = [2.0, 0.05, 0.2, 0.0]
    obstacles[3, :4] = [1.0, 0.0, 5.0, 0.0]  # on the line's extension, far behind the goal
    assert blocking_obstacle(np.array([0.0, -1, 0]), np.array([0.0, 1, 0]), obstacles) == 2


def test_candidates_are_measured_beside_the_teachers():
    scene = Scene(np.array([0.4, -0.2, 0.2]), np.array([0.4, 0.2, 0.2]), np.zeros((4, 8)))
    scene.obstacles[0, :5] = [1.0, 0.4, 0.0, 0.2, 0.05]
    line = np.linspace(scene.start, scene.goal, 41)
    bump = np.sin(np.linspace(0, np.pi, 41))[:, None] * np.array([0.2, 0.0, 0.0])
    both, left = np.stack((line - bump, line + bump)), np.stack((line - bump, line - bump))
    made = measure_candidates(both, left, scene, shown=True)
    assert set(made) <= {metric.name for metric in METRICS}
    assert made["candidate_spread_mm"] == pytest.approx(1e3 * np.sqrt(np.square(bump).sum(-1).mean()))
    assert made["teacher_distance_mm"] == pytest.approx(1e3 * np.sqrt(np.square(2 * bump).sum(-1).mean() / 2))
    assert (made["candidates_free"], made["both_sides_used"]) == (1.0, 1.0)
    assert [made[f"side_{side}"] for side in ("left", "right", "over")] == [0.5, 0.5, 0.0]
    assert made["side_distance_from_teacher"] == 0.5
    alone = measure_candidates(left, left, scene, shown=True)
    assert (alone["candidate_spread_mm"], alone["teacher_distance_mm"], alone["both_sides_used"]) == (0.0, 0.0, 0.0)
    assert set(measure_candidates(both, left, scene, shown=False)) == set(list(made)[:3])
