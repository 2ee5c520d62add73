"""On the charged clock the loop does, number for number, what it did when the committed results were made.

Below stands that loop, as it was; both are given the same costs, and everything they say and send must be equal.
"""

import math
from collections import Counter

import numpy as np
import pytest

from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision, NoPlanError
from onestride.tasks import CONTROL_SPECS
from onestride.tasks.kinova.simulation import SimulatedArm

CONTROL = CONTROL_SPECS["kinova"]()


def as_it_was(robot, clock, policy, control, *, timeout):
    """The loop of the committed results; what it logged, as a dict."""
    log = {"success": False, "outcome": "timeout", "executed": 0, "ticks": 0, "overruns": 0, "refused": Counter()}
    decided = 0
    dt, start, arrived = control.control_dt, clock.now(), 0
    while True:
        observation = robot.read()
        now = clock.now()
        log["duration"] = now - start
        try:
            control.validate_observation(observation)
            refusal = None
        except ObservationError as error:
            refusal = f"observation refused: {error}"
        arrived = arrived + 1 if refusal is None and control.goal_reached(observation) else 0
        fault = robot.fault()
        if fault is not None:
            log["outcome"] = fault
            break
        if arrived > control.dwell_steps:
            log["success"], log["outcome"] = True, "arrived"
            break
        if now - start >= timeout:
            break
        command = None
        if refusal is not None:
            log["refused"][refusal] += 1
        else:
            try:
                decision = policy.decide(observation)
            except NoPlanError as error:
                log["refused"][f"no plan: {error}"] += 1
                decision = None
            clock.charge(0.0)
            decided += 1
            if decision is not None:
                violation = control.limits.violation(decision.action, observation)
                if violation is not None:
                    log["refused"][f"command refused: {violation}"] += 1
                else:
                    command = decision.action
        if command is not None:
            robot.write(command)
            log["executed"] += 1
        late = math.floor((clock.now() - start) / dt + 1e-9) - log["ticks"]
        if late >= 1:
            log["overruns"] += 1
        log["ticks"] += late + 1
        clock.sleep_until(start + log["ticks"] * dt)
    robot.stop()
    return log | {"decided": decided, "starved": max(log["ticks"] - log["executed"], 0)}


def as_it_is(robot, clock, policy, control, *, timeout):
    log = run_episode(robot, clock, policy, control, timeout=timeout)
    names = ("success", "outcome", "duration", "executed", "ticks", "overruns", "refused", "starved")
    assert log.late == {}
    assert log.dropped == log.replaced == log.filled == 0
    return {name: getattr(log, name) for name in names} | {"decided": len(log.decisions)}


class ScriptedClock(ChargedClock):
    """Charges what the test says, and starts where the test says."""

    def __init__(self, costs, began) -> None:
        super().__init__()
        self.costs, self.time = iter(costs), began

    def charge(self, seconds: float) -> None:
        super().charge(next(self.costs))


class Recorded:
    """The simulated arm, and what it was told, when."""

    def __init__(self, arm, clock) -> None:
        self.arm, self.clock, self.sent = arm, clock, []
        self.stop, self.fault = arm.stop, arm.fault

    def read(self):
        observation = self.arm.read()
        return np.full(41, np.nan) if len(self.sent) in (5, 9) and self.clock.now() % 0.1 < 0.05 else observation

    def write(self, command):
        self.sent.append((self.clock.now(), *command))
        self.arm.write(command)


class Wanderer:
    """Goes to the goal by way of some noise; now and then it has nothing sensible to say."""

    def __init__(self, seed) -> None:
        self.rng = np.random.default_rng(seed)

    def decide(self, observation):
        mood = self.rng.random()
        if mood < 0.05:
            raise NoPlanError("none of 64 candidates is finite")
        way = observation[6:9] - observation[:3]
        step = way * min(1.0, 0.02 / max(float(np.linalg.norm(way)), 1e-9)) + self.rng.normal(size=3) * 1e-3
        action = observation[:3] + (np.full(3, np.inf) if mood < 0.1 else step)
        return Decision(action, np.zeros((32, 9)), np.zeros((1, 32, 9)), np.zeros(1), {})


@pytest.mark.parametrize("cost", [0.2, 0.9, 1.0, 3.0])  # control periods, at most
@pytest.mark.parametrize("began", [0.0, 12.3])
def test_the_charged_clock_gives_the_same_numbers_as_ever(arm_scenes, cost, began):
    rng = np.random.default_rng(int(10 * cost))
    costs = CONTROL.control_dt * (np.full(200, 1.0) if cost == 1.0 else rng.uniform(0, cost, 200))
    told = []
    for loop in (as_it_was, as_it_is):
        clock = ScriptedClock(costs, began)
        robot = Recorded(SimulatedArm(arm_scenes[1], clock), clock)
        said = loop(robot, clock, Wanderer(3), CONTROL, timeout=2.0)
        told.append((said, robot.sent, robot.arm.ee_path))
    (was, sent_then, path_then), (now, sent_now, path_now) = told
    assert was == now
    assert sent_then == sent_now
    np.testing.assert_array_equal(path_then, path_now)
    assert was["executed"] > 5
