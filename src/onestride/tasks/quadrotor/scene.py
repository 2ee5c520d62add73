"""Scenes of the quadrotor: a start, a goal, and pillars and boxes in a room, with the speeds that it flies at.

Everything is in the room's frame, in metres, with z up. The origin lies in the middle of the floor.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from onestride.tasks import obstacles

MAX_OBSTACLES = 6

#: The room: its walls, floor and ceiling [m].
ROOM_LOW, ROOM_HIGH = np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 1.6])
#: The box of starts, goals and planned paths [m].
FLIGHT_LOW, FLIGHT_HIGH = np.array([-1.7, -1.2, 0.35]), np.array([1.7, 1.2, 1.25])
#: Radius of a sphere that contains the airframe: 92 mm from motor to motor across (Crazyflie 2.1 data sheet), and
#: propellers of 46 mm [m].
BODY_RADIUS = 0.07
#: The control period and limits, in the data and in the task.
CONTROL_DT = 0.025  # [s]
RESPONSE = 0.125  # time constant with which a commanded velocity is approached [s]
SPEED = 1.5  # [m/s]
ACCELERATION = 1.8  # [m/s^2], along the path and across it: together they leave a twentieth of the thrust for feedback


class Scene(obstacles.Scene):
    """One problem of the quadrotor."""

    max_obstacles: ClassVar[int] = MAX_OBSTACLES
