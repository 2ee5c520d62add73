"""The planner: clear, within limits, on every open side, the same for the same seed."""

import numpy as np
import pytest
import torch

from onestride.tasks.bspline import DIRECT, SIDES, Problems
from onestride.tasks.kinova import bspline
from onestride.tasks.kinova.bspline import BSplineConfig, clearances
from onestride.tasks.kinova.demonstrations import chunk, evaluation_scenes, open_on_both_sides
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import SPHERE

CONFIG = BSplineConfig()


@pytest.fixture(scope="module")
def planned():
    rng = torch.Generator().manual_seed(3)
    problems = bspline.sample_problems(96, CONFIG, rng)
    problems = problems.take(bspline.feasible_ends(problems, CONFIG).nonzero().squeeze(1))
    return problems, bspline.plan(problems, CONFIG)


def scene(*obstacles: list[float]) -> Problems:
    rows = torch.zeros(1, 4, 8)
    for i, obstacle in enumerate(obstacles):
        rows[0, i, : len(obstacle)] = torch.tensor(obstacle)
    start, goal = torch.tensor([[0.42, -0.25, 0.15]]), torch.tensor([[0.42, 0.25, 0.15]])
    return Problems(start, torch.zeros(1, 3), goal, rows)


@pytest.mark.slow
def test_paths_join_start_and_goal_and_keep_the_margins(planned):
    problems, paths = planned
    assert len(paths) > 30
    for path in paths:
        p = torch.from_numpy(path.positions)
        torch.testing.assert_close(p[0], problems.start[path.scene])
        torch.testing.assert_close(p[-1], problems.goal[path.scene], atol=1e-5, rtol=0)
        fine = torch.nn.functional.interpolate(p.T[None], 200, mode="linear", align_corners=True)[0].T
        tip, body = clearances(fine[None], problems.obstacles[path.scene][None])
        # Sampled at 20 Hz and joined by straight lines, a path cuts its corners by a few millimetres.
        assert tip.min() > CONFIG.clearance - 0.006
        assert body.min() > CONFIG.body_clearance - 0.006
        assert (p.numpy() >= WORKSPACE_LOW - 1e-3).all()
        assert (p.numpy() <= WORKSPACE_HIGH + 1e-3).all()


def test_speed_and_acceleration_stay_within_limits(planned):
    _, paths = planned
    for path in paths:
        step = np.diff(path.positions, axis=0) / CONFIG.control_dt
        assert np.linalg.norm(step, axis=1).max() <= CONFIG.speed * 1.001
    # Along the path and across it are limited each: together at most sqrt(2) times, and a start in motion may turn.
    change = [np.linalg.norm(np.diff(p.positions, n=2, axis=0), axis=1) / CONFIG.control_dt**2 for p in paths]
    assert np.quantile(np.concatenate(change), 0.99) <= 1.5 * CONFIG.acceleration


def test_a_free_line_has_one_answer_and_it_is_straight_and_fastest():
    (path,) = bspline.plan(scene(), CONFIG)
    assert path.side == DIRECT
    assert np.abs(path.positions[:, [0, 2]] - [0.42, 0.15]).max() < 1e-3
    # Trapezoidal profile: v/a + d/v.
    fastest = CONFIG.speed / CONFIG.acceleration + 0.5 / CONFIG.speed
    assert (len(path.positions) - 1) * CONFIG.control_dt == pytest.approx(fastest, abs=1.5 * CONFIG.control_dt)


def test_an_obstacle_across_the_line_is_passed_on_every_open_side():
    paths = bspline.plan(scene([SPHERE, 0.42, 0.0, 0.15, 0.04]), CONFIG)
    sides = {SIDES[p.side]: p.positions for p in paths}
    assert set(sides) == {"left", "right", "over"}
    # Seen along the motion (+y), left is -x.
    assert sides["left"][:, 0].min() < 0.36
    assert sides["right"][:, 0].max() > 0.48
    assert sides["over"][:, 2].max() > 0.2


def test_a_closed_side_gives_no_path():
    wall = [2.0, 0.34, 0.0, 0.16, 0.06, 0.03, 0.16]  # from the obstacle to the near edge, too tall to pass over
    paths = bspline.plan(scene([SPHERE, 0.42, 0.0, 0.15, 0.04], wall), CONFIG)
    assert all(SIDES[p.side] != "left" for p in paths)


def test_no_way_at_all_gives_nothing():
    wall = [2.0, 0.42, 0.0, 0.2, 0.3, 0.03, 0.2]
    assert bspline.plan(scene(wall), CONFIG) == []


def test_a_start_in_motion_leaves_along_its_velocity():
    problems = scene()
    moving = Problems(problems.start, torch.tensor([[0.0, 0.2, 0.2]]), problems.goal, problems.obstacles)
    (path,) = bspline.plan(moving, CONFIG)
    first = (path.positions[1] - path.positions[0]) / CONFIG.control_dt
    assert first @ np.array([0.0, 0.2, 0.2]) / np.linalg.norm(first) / np.hypot(0.2, 0.2) > 0.97
    assert np.linalg.norm(first) == pytest.approx(np.hypot(0.2, 0.2), rel=0.2)


@pytest.mark.slow
def test_a_chunk_is_a_function_of_its_number_and_counts_what_it_refused():
    (a, counts), (b, _) = chunk(0, 5), chunk(0, 5)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.observations, y.observations)
    assert sum(v for k, v in counts.items() if k.startswith("paths")) == len(a)
    assert counts["scenes"] == 384
    assert counts["refused: an end too near an obstacle"] > 0
    other, _ = chunk(0, 6)
    assert not np.array_equal(other[0].observations[0], a[0].observations[0])


@pytest.mark.slow
def test_episodes_hold_still_at_the_goal_and_measure_the_period_just_gone():
    episode = chunk(0, 5)[0][0]
    position, velocity, goal = episode.observations[:, :3], episode.observations[:, 3:6], episode.observations[0, 6:9]
    np.testing.assert_allclose(position[-2:], [goal, goal], atol=1e-6)
    np.testing.assert_allclose(velocity[-1], 0, atol=1e-6)
    np.testing.assert_allclose(np.diff(position, axis=0) / CONFIG.control_dt, velocity[1:], atol=1e-4)
    np.testing.assert_array_equal(episode.actions, position[1:])


@pytest.mark.slow
def test_evaluation_scenes_are_feasible_far_enough_and_repeatable():
    scenes = evaluation_scenes(10, seed=1)
    again = evaluation_scenes(10, seed=1)
    assert all(np.array_equal(a.obstacles, b.obstacles) for a, b in zip(scenes, again, strict=True))
    assert all(np.linalg.norm(s.goal - s.start) >= 0.25 for s in scenes)
    assert set(open_on_both_sides(scenes)) <= set(range(10))
    assert not np.array_equal(evaluation_scenes(10, seed=2)[0].start, scenes[0].start)
