"""The filter in the simulator: no certificate breaks under plans that want to collide; without inflation one does."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.clearance import FILTERS, kinova
from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock
from onestride.robot.decision import Decision
from onestride.studies.clearance_trials import BODIES, PLANS, Adversary, Recorded, random_scenes, trial
from onestride.tasks import TASKS
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.obstacles import BOX, SPHERE

WALL = np.array([[BOX, 0.42, 0.0, 0.15, 0.15, 0.02, 0.15, 0.0], *np.zeros((3, 8))])  # between start and goal
FACING = Scene(np.array([0.42, -0.2, 0.15]), np.array([0.42, 0.2, 0.15]), WALL)


def driven(name, scene, plan, *, seed=0, moves=False, timeout=1.5, change=lambda clearance: None):
    body, task, rng = BODIES[name], TASKS[name](), np.random.default_rng(seed)
    clearance = Recorded.of(FILTERS[name](obstacle_speed=body.speed * moves))
    change(clearance)
    return trial(body, task, scene, Adversary(body, task, plan, rng), clearance, rng, moves=moves, timeout=timeout)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("plan", PLANS)
def test_no_certificate_breaks(name, plan):
    (scene,) = random_scenes(BODIES[name], 1, PLANS.index(plan))
    made = driven(name, scene, plan)
    assert made.proved > 25
    assert (made.collided, made.broken, made.log.violations) == (False, 0, {})
    assert made.least >= BODIES[name].margin


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_no_certificate_breaks_where_obstacles_move(name):
    (scene,) = random_scenes(BODIES[name], 1, 5)
    made = driven(name, scene, "goal", moves=True)
    assert made.proved > 20
    assert (made.broken, made.log.violations) == (0, {})


def test_an_arm_that_is_sent_into_a_wall_stops_before_it():
    made = driven("kinova", FACING, "goal")
    assert not made.collided
    assert made.log.clearance["standing"] > 5
    assert made.log.clearance["unproved"] == 0
    assert 0.003 <= made.least < 0.03


def test_without_inflation_certificates_break():
    """The mutation: what errors add is left away, and the simulator shows it."""

    def bare(clearance):
        clearance.reference.kept = kinova.RADII - 0.001

    made = driven("kinova", FACING, "goal", change=bare)
    assert made.broken > 0


class Steady:
    """Heads for the goal slowly, which nothing is in the way of."""

    def decide(self, observation):
        offset = observation[6:9] - observation[:3]
        action = observation[:3] + offset * min(1.0, 0.004 / max(float(np.linalg.norm(offset)), 1e-9))
        return Decision(action, np.zeros((32, 9)), np.zeros((1, 32, 9)), np.zeros(1), {})


def path_of(clearance):
    robot = SimulatedArm(
        Scene(FACING.start, FACING.start + np.array((0.05, -0.02, 0.02)), np.zeros((4, 8))), ChargedClock()
    )
    robot.clock.charge = lambda seconds: None
    log = run_episode(robot, robot.clock, Steady(), TASKS["kinova"]().control, timeout=1.0, clearance=clearance)
    return robot.joint_path, log


def test_what_is_certified_is_sent_as_it_is():
    """The robot moves the same with the filter and without, to the last bit."""
    (without, log), (filtered, counted) = path_of(None), path_of(FILTERS["kinova"]())
    np.testing.assert_array_equal(without, filtered)
    assert (log.clearance, log.violations) == ({}, {})
    assert set(counted.clearance) == {"followed"}
    assert counted.clearance["followed"] == counted.executed


def observed(clearance, position=(0.4, 0.0, 0.2), rows=((SPHERE, 0.4, 0.3, 0.2, 0.05, 0.05, 0.05, 0.0),), time=0.0):
    obstacles = np.zeros((4, 8))
    obstacles[: len(rows)] = np.reshape(rows, (-1, 8))
    clearance.observe(np.concatenate((position, np.zeros(3), position, obstacles.ravel())), time)


def send(clearance, now=0.0, by=(0.005, 0.0, 0.0)):
    return clearance(np.array([0.4, 0.0, 0.2]) + by, np.zeros((0, 3)), now)


def test_a_robot_that_is_elsewhere_gets_no_certificate_and_is_counted():
    clearance = FILTERS["kinova"]()
    observed(clearance)
    assert send(clearance) is not None
    observed(clearance, position=(0.4, 0.02, 0.2), time=0.05)
    send(clearance, 0.05)
    assert clearance.violations == {"tracking": 1}
    assert not clearance.proved


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(SPHERE, 0.4, 0.28, 0.2, 0.05, 0.05, 0.05, 0.0)], "obstacle speed"),
        ([(SPHERE, 0.4, 0.3, 0.2, 0.07, 0.07, 0.07, 0.0)], "obstacle speed"),  # it grew
        ([], "an obstacle came or went"),
    ],
)
def test_an_obstacle_that_is_quicker_than_assumed_is_counted(rows, said):
    clearance = FILTERS["kinova"](obstacle_speed=0.1)
    observed(clearance)
    observed(clearance, rows=rows, time=0.05)
    assert send(clearance, 0.05) is None
    assert clearance.violations == {said: 1}
    assert not clearance.proved


def test_old_observations_prove_nothing():
    clearance = FILTERS["kinova"](max_age=0.1)
    observed(clearance)
    assert send(clearance, 0.2) is None
    assert clearance.violations == {"observation age": 1}


def test_a_collision_while_a_certificate_holds_is_counted():
    clearance = FILTERS["kinova"]()
    observed(clearance)
    send(clearance)
    clearance.mark_fault("collision")
    assert clearance.violations == {"fault: collision": 1}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="neither may be negative"):
        FILTERS["kinova"](obstacle_speed=-1.0)
    with pytest.raises(RuntimeError, match="before any observation"):
        send(FILTERS["kinova"]())
