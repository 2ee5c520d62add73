"""A robot of LeRobot's that is PushT's agent on an empty field: two joints that go where they are told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from lerobot.robots import Robot, RobotConfig

JOINTS = ("x.pos", "y.pos")
CORNERS = tuple(f"corner{i}.pos" for i in range(16))


@RobotConfig.register_subclass("point_robot")
@dataclass
class PointRobotConfig(RobotConfig):
    """Nothing more."""


class PointRobot(Robot):
    config_class = PointRobotConfig
    name = "point_robot"
    sent: ClassVar[list[dict[str, float]]] = []  # of the robot that was connected last

    def __init__(self, config):
        super().__init__(config)
        self.there = dict.fromkeys((*JOINTS, *CORNERS), 200.0)
        self.is_connected = False

    @cached_property
    def observation_features(self):
        return dict.fromkeys((*JOINTS, *CORNERS), float)

    @cached_property
    def action_features(self):
        return dict.fromkeys(JOINTS, float)

    is_connected = False
    is_calibrated = True

    def connect(self, calibrate=True):
        self.is_connected = True
        self.sent.clear()

    def calibrate(self):
        pass

    def configure(self):
        pass

    def get_observation(self):
        return dict(self.there)

    def send_action(self, action):
        self.there.update(action)
        self.sent.append(dict(action))
        return action

    def disconnect(self):
        self.is_connected = False
