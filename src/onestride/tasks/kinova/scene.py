"""Scenes of the arm task: a start, a goal and 1 to 4 static obstacles, with the workspace and the arm's speed limits.

Everything is in the robot's base frame, in metres, with z up. The base stands on the table plane z = 0. Obstacles are
spheres and boxes, see ``tasks/obstacles.py``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from onestride.tasks import obstacles

MAX_OBSTACLES = 4

#: The box of starts, goals and planned paths [m]: reachable with the tool down, and without singularities of the arm.
WORKSPACE_LOW = np.array([0.28, -0.32, 0.06])
WORKSPACE_HIGH = np.array([0.57, 0.32, 0.32])
#: The end-effector's control period and limits, in the data and in the task.
CONTROL_DT = 0.05  # [s]
SPEED = 0.4  # [m/s]
ACCELERATION = 1.5  # [m/s^2], along the path and across it


class Scene(obstacles.Scene):
    """One problem of the end-effector."""

    max_obstacles: ClassVar[int] = MAX_OBSTACLES
