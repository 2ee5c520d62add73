"""The target that is moved away: when it moves, how fast, where it stops, and that an arm which follows it arrives."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.robot.clock import ChargedClock
from onestride.tasks.kinova.control_spec import goal_reached
from onestride.tasks.kinova.moving import NEAR, PATTERNS, SPEED, MovingScene, MovingTarget, measure, scenes
from onestride.tasks.kinova.scene import CONTROL_DT, WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import OBSTACLE_DIM

STEP = 0.3 * CONTROL_DT  # of the tool towards the target [m]


def follow(arm, clock, periods, towards=lambda observation: observation[6:9]):
    """Command one step towards a point each period; return what was observed."""
    seen = []
    for _ in range(periods):
        observation = arm.read()
        seen.append(observation)
        way = towards(observation) - observation[:3]
        arm.write(observation[:3] + way * min(1.0, STEP / max(float(np.linalg.norm(way)), 1e-9)))
        clock.sleep_until(clock.now() + CONTROL_DT)
    return np.array(seen)


def test_scenes_go_through_the_patterns_and_stay_in_the_workspace():
    made = scenes(25, 3)
    for number, scene in enumerate(made):
        legs = np.diff(np.concatenate((scene.goal[None], scene.stops)), axis=0)
        np.testing.assert_allclose(legs, PATTERNS[number % len(PATTERNS)], atol=1e-12)
        assert ((scene.stops >= WORKSPACE_LOW) & (scene.stops <= WORKSPACE_HIGH)).all()
    assert not np.allclose(made[0].start, made[10].start)
    np.testing.assert_array_equal(scenes(3, 3)[2].goal, made[2].goal)


@pytest.mark.parametrize("number", [0, 6, 9])
def test_a_tool_that_follows_has_it_moved_away_as_often_as_it_says_and_arrives(number):
    clock, scene = ChargedClock(), scenes(10, 0)[number]
    arm = MovingTarget(scene, clock)
    seen = follow(arm, clock, 160)
    assert goal_reached(arm.read())
    np.testing.assert_allclose(arm.goal, scene.stops[-1], atol=1e-12)
    found = measure(arm, scene)
    assert found["moves"] == len(scene.stops)
    assert found["terminal_error_mm"] < 5
    speeds = np.linalg.norm(np.diff(seen[:, 6:9], axis=0), axis=1) / CONTROL_DT
    assert 0 < speeds.max() <= SPEED * 1.001
    first = int(np.argmax(speeds > 0))
    assert np.linalg.norm(seen[:first, :3] - scene.goal, axis=1).min() >= NEAR


def test_it_stays_where_it_is_while_nobody_comes_near():
    clock, none = ChargedClock(), np.zeros((4, OBSTACLE_DIM))
    start, goal, stop = np.array([[0.45, -0.2, 0.2], [0.45, 0.2, 0.2], [0.45, 0.0, 0.2]])
    scene = MovingScene(start, goal, none, stop[None])
    arm = MovingTarget(scene, clock)
    follow(arm, clock, 20, towards=lambda _: start)
    np.testing.assert_array_equal(arm.goal, goal)
    assert measure(arm, scene)["moves"] == 0
    follow(arm, clock, 60)
    assert measure(arm, scene)["moves"] == 1
    arm.reset()
    np.testing.assert_array_equal(arm.read()[6:9], goal)
