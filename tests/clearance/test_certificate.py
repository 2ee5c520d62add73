"""Certificates: the bound between knots, what is added to the required distance, and the arm's body."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.clearance import kinova
from onestride.clearance.certificate import Motion, Surroundings, clearances
from onestride.clearance.shapes import RoundedBoxes, segment_distances
from onestride.studies.clearance_trials import arm_axes
from onestride.tasks.kinova.arm import InverseKinematics, build_model
from onestride.tasks.kinova.links import JOINTS, VELOCITY_LIMITS
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import BOX, SPHERE

FAR_WALL = np.array([[0.0, 0.0, 1.0, -100.0]])
BALL = np.array([[SPHERE, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.0]])


def motion(ends, kept=0.0, seconds=0.0):
    """One motion of capsules whose ends are (T, K, 2, 3)."""
    ends = np.asarray(ends, np.float64)[None]
    kept = np.full((1, ends.shape[2]), kept)
    return Motion(ends, ends[:, -1], kept, np.array([seconds]), np.zeros((1, 1, 3)), np.ones(1, bool))


def surroundings(rows, speed=0.0, age=0.0, walls=FAR_WALL):
    return Surroundings(RoundedBoxes.of(rows), walls, speed, age)


def point(*place):
    return [[place, place]]


def test_what_is_required_is_the_sum_of_all_errors():
    still = motion([point(1.0, 0, 0)], kept=0.2, seconds=2.0)
    assert clearances(still, surroundings(BALL))[0] == pytest.approx(0.9 - 0.2)
    assert clearances(still, surroundings(BALL, speed=0.1, age=1.0))[0] == pytest.approx(0.9 - 0.2 - 0.1 * 3.0)


def test_walls_do_not_move():
    wall = np.array([[1.0, 0.0, 0.0, 0.0]])
    still = motion([point(0.5, 0, 0)], kept=0.2, seconds=2.0)
    assert clearances(still, surroundings(BALL[:0], speed=9.0, walls=wall))[0] == pytest.approx(0.3)


def test_no_obstacle_fits_between_two_knots():
    across = motion([point(-1.0, 0, 0), point(1.0, 0, 0)])  # both knots are 0.9 m off, the ball lies in the middle
    assert clearances(across, surroundings(BALL))[0] < 0


def test_straight_away_from_an_obstacle_the_bound_is_exact():
    away = motion([point(0.3, 0, 0), point(0.5, 0, 0)])
    assert clearances(away, surroundings(BALL))[0] == pytest.approx(0.2)


def test_between_knots_nothing_is_nearer_than_the_bound():
    rng = np.random.default_rng(0)
    nearest = []
    for _ in range(200):
        rows = np.zeros((3, 8))
        rows[:, 0], rows[:, 1:4], rows[:, 4:7] = BOX, rng.uniform(-0.5, 0.5, (3, 3)), rng.uniform(0.02, 0.2, (3, 3))
        rows[:, 7] = rng.uniform(0, np.pi, 3)
        ends = rng.uniform(-0.6, 0.6, (1, 2, 2, 3)) + rng.normal(scale=0.05, size=(4, 2, 2, 3)).cumsum(0)
        bound = clearances(motion(ends), surroundings(rows))[0]
        at = np.linspace(0, 1, 60)[:, None, None, None, None]
        between = (ends[:-1] + at * np.diff(ends, axis=0)).reshape(-1, 2, 3)
        least = segment_distances(between, RoundedBoxes.of(rows)).min()
        assert bound <= least
        nearest.append(least - bound)
    assert np.median(nearest) < 0.15  # and the bound says something


def test_the_arms_body_is_mujocos():
    model = build_model(np.zeros((4, 8)))
    kinematics, rng = InverseKinematics(model), np.random.default_rng(0)
    for _ in range(10):
        hand = rng.uniform(WORKSPACE_LOW - 0.02, WORKSPACE_HIGH + 0.02)
        q, error = kinematics.start(hand)
        np.testing.assert_allclose(kinova.body(hand), arm_axes(model, q[None])[0], atol=error + 3e-6)
    radii = [model.geom(name).size[0] for name in (*(link.name for link in kinova.LINKS), "tool")]
    np.testing.assert_allclose(kinova.RADII, radii)


def test_joints_take_the_time_of_the_slowest():
    model = build_model(np.zeros((4, 8)))
    kinematics, rng = InverseKinematics(model), np.random.default_rng(1)
    assert len(JOINTS) == len(VELOCITY_LIMITS)
    for _ in range(5):
        begin, end = rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH, (2, 3))
        move = np.abs(kinematics.start(end)[0] - kinematics.start(begin)[0])[:6]  # joint 7 keeps the tool's yaw
        assert kinova.seconds_between(begin, end) == pytest.approx((move / VELOCITY_LIMITS[:6]).max(), rel=0.02)
