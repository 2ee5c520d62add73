"""Distances of capsules: closed forms, a brute-force search, and MuJoCo's."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from onestride.clearance.shapes import RoundedBoxes, segment_distances, wall_distances
from onestride.tasks.obstacles import ABSENT, BOX, PILLAR, SPHERE


def obstacle(kind, center, half, yaw=0.0):
    return np.array([[kind, *center, *half, yaw]])


def segment(*points):
    return np.array([points], np.float64)


@pytest.mark.parametrize(
    ("row", "ends", "expected"),
    [
        (obstacle(SPHERE, (0, 0, 0), (0.1, 0.1, 0.1)), segment((-1, 0.5, 0), (1, 0.5, 0)), 0.4),
        (obstacle(SPHERE, (0, 0, 0), (0.1, 0.1, 0.1)), segment((1, 0, 0), (2, 0, 0)), 0.9),
        (obstacle(BOX, (0, 0, 0), (0.2, 0.1, 0.3)), segment((0, 0.5, -1), (0, 0.5, 1)), 0.4),  # along a face
        (obstacle(BOX, (0, 0, 0), (1, 1, 1)), segment((3, 0, 0), (0, 3, 0)), np.sqrt(0.5)),  # past an edge
        (obstacle(BOX, (0, 0, 0), (1, 1, 1)), segment((2, 2, 2), (3, 2, 2)), np.sqrt(3)),  # a corner
        (obstacle(BOX, (0, 0, 0), (1, 1, 1), np.pi / 4), segment((3, 0, 0), (3, 0, 0)), 3 - np.sqrt(2)),  # turned
        (obstacle(BOX, (0, 0, 0), (1, 1, 1)), segment((-5, 0, 0), (5, 0.1, 0)), 0.0),  # through
        (obstacle(PILLAR, (0, 0, 0.8), (0.1, 0.1, 0.8)), segment((0.5, -1, 0.5), (0.5, 1, 1.0)), 0.4),
    ],
)
def test_distances_have_closed_forms(row, ends, expected):
    assert segment_distances(ends, RoundedBoxes.of(row))[0, 0] == pytest.approx(expected, abs=1e-12)


def test_absent_obstacles_are_left_out():
    boxes = RoundedBoxes.of(np.concatenate((obstacle(ABSENT, (0, 0, 0), (1, 1, 1)), np.zeros((2, 8)))))
    assert len(boxes) == 0
    assert segment_distances(segment((0, 0, 0), (1, 0, 0)), boxes).shape == (1, 0)


def random_case(rng, n=60):
    rows = np.zeros((6, 8))
    rows[:, 0] = [SPHERE, BOX, PILLAR, BOX, BOX, SPHERE]
    rows[:, 1:4], rows[:, 4:7] = rng.uniform(-0.5, 0.5, (6, 3)), rng.uniform(0.05, 0.3, (6, 3))
    rows[:, 7] = rng.uniform(0, np.pi, 6) * (rows[:, 0] == BOX)
    ends = rng.uniform(-1, 1, (n, 2, 3))
    ends[:10, 1] = ends[:10, 0]  # points
    ends[10:20, 1, :2] = ends[10:20, 0, :2]  # upright
    return rows, ends


def test_distances_are_the_least_along_the_segment():
    rows, ends = random_case(np.random.default_rng(0))
    boxes = RoundedBoxes.of(rows)
    found = segment_distances(ends, boxes)
    at = np.linspace(0, 1, 2001)[:, None, None]
    points = ends[:, 0] + at * (ends[:, 1] - ends[:, 0])  # (2001, N, 3)
    for m in range(len(boxes)):
        local = np.abs((points - boxes.center[m]) @ boxes.turn[m].T) - boxes.half[m]
        searched = np.linalg.norm(np.maximum(local, 0), axis=-1).min(0) - boxes.rounding[m]
        assert (found[:, m] <= searched + 1e-12).all()
        np.testing.assert_allclose(found[:, m], searched, atol=1e-3)


def test_distances_that_do_not_matter_are_bounds_that_are_enough():
    rows, ends = random_case(np.random.default_rng(1))
    exact, bound = (segment_distances(ends, RoundedBoxes.of(rows), enough) for enough in (np.inf, 0.3))
    near = exact < 0.3
    assert near.any()
    assert not near.all()
    np.testing.assert_array_equal(bound[near], exact[near])
    assert (bound <= exact + 1e-12).all()
    assert (bound[~near] >= 0.3).all()


def test_distances_are_those_of_mujoco():
    """A capsule against a sphere and a turned box, as MuJoCo measures them; a pillar's is that or less."""
    rng = np.random.default_rng(2)
    rows, ends = random_case(rng, 20)
    spec, radius = mujoco.MjSpec(), 0.04
    kinds = {
        SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
        BOX: mujoco.mjtGeom.mjGEOM_BOX,
        PILLAR: mujoco.mjtGeom.mjGEOM_CYLINDER,
    }
    for kind, *numbers in rows:
        x, y, z = numbers[3:6]
        size = {SPHERE: [x, 0, 0], BOX: [x, y, z], PILLAR: [x, z, 0]}[kind]
        turn = [np.cos(numbers[6] / 2), 0, 0, np.sin(numbers[6] / 2)]
        spec.worldbody.add_geom(type=kinds[kind], size=size, pos=numbers[:3], quat=turn)
    for begin, end in ends[20 // 2 :]:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0, 0], fromto=np.concatenate((begin, end))
        )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mine = segment_distances(ends[10:], RoundedBoxes.of(rows)) - radius
    compared = 0
    for n in range(10):
        for m, kind in enumerate(rows[:, 0]):
            theirs = mujoco.mj_geomDistance(model, data, 6 + n, m, 5.0, None)
            if theirs > 0.0:
                compared += 1
                assert mine[n, m] == pytest.approx(theirs, abs=2e-4) if kind != PILLAR else mine[n, m] < theirs + 2e-4
    assert compared > 30


def test_walls_are_half_spaces():
    walls = np.array([[1.0, 0, 0, -2.0], [0, 0, -1.0, -1.6]])  # x above -2, z below 1.6
    ends = np.array([[[0.0, 0, 0], [0, 0, 1.0]], [[-3.0, 0, 0], [0, 0, 0]]])
    np.testing.assert_allclose(wall_distances(ends, walls), [0.6, -1.0])
