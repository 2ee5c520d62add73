"""Links between a loop and its viewer, and what a loop would have published on them."""

from __future__ import annotations

import numpy as np

from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision
from onestride.viewer.records import Link
from onestride.viewer.tap import Tap

CONTROL = plain_control(
    name="toy", observation_dim=3, horizon=8, control_dt=0.02, low=np.full(2, -1.0), high=np.full(2, 1.0)
)


class Drifting:
    """A robot whose first number counts its readings, and whose things can be placed above the floor."""

    def __init__(self):
        self.readings, self.sent, self.placed, self.stops = 0, [], {}, 0

    def read(self):
        self.readings += 1
        return np.array([self.readings, 0.5, -0.5])

    def write(self, command):
        self.sent.append(command.copy())

    def stop(self):
        self.stops += 1

    def fault(self):
        return None


def place(robot, name, position):
    if position[2] < 0:
        raise ValueError("under the floor")
    robot.placed[name] = position.tolist()


class Answering:
    """Decides by the observation alone: every candidate's action is a share of its second number."""

    def decide(self, observation, *, committed=None):
        plans = np.zeros((5, CONTROL.horizon, CONTROL.transition_dim), np.float32)
        plans[..., 3:] = observation[1] * np.arange(5, dtype=np.float32)[:, None, None] / 5
        action = plans[3, 0, 3:].astype(np.float64)
        return Decision(action, plans[3], plans, np.array([0.0, np.nan, 1.0, 2.0, 1.5], np.float32), {"total": 0.001})


def tapped(control=CONTROL, handles=("goal", "obstacle0"), where=place):
    """A tap on a loop, and its link."""
    link = Link.of("dnk-0", control)
    return Tap(link, control, handles, where), link
