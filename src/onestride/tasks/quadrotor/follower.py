"""The demonstrator in flight: a planned path followed by velocity commands. It is what planners are compared with."""

from __future__ import annotations

import numpy as np
import torch

from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision
from onestride.tasks.bspline import Problems
from onestride.tasks.quadrotor import bspline, demonstrations
from onestride.tasks.quadrotor.bspline import BSplineConfig
from onestride.tasks.quadrotor.control_spec import LARGEST
from onestride.tasks.quadrotor.scene import CONTROL_DT, MAX_OBSTACLES, RESPONSE

STIFFNESS = 4.0  # of the path: acceleration per distance from it [1/s^2]


class PathFollower:
    """Plans once, at its first observation, then follows the shortest path that it found.

    A command leads along the path and back to it. Time is counted in decisions.

    Attributes:
        nfe: network calls per decision: none.
        path: positions at the control rate (T+1, 3) [m], or None before the first decision.
    """

    nfe = 0

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, _number: int = 0) -> None:
        """Forget the path, so that the next decision plans anew."""
        self.path: np.ndarray | None = None
        self._commands, self._row = np.zeros((0, 3)), 0

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the decision about an observation (57,). Its plans are empty.

        Raises:
            ObservationError: no clear path leads to the goal.
        """
        if self.path is None:
            self._plan(observation)
        assert self.path is not None
        row, self._row = min(self._row, len(self.path) - 1), self._row + 1
        command = self._commands[row] + STIFFNESS * RESPONSE * (self.path[row] - observation[:3])
        empty = np.zeros((0, 9))
        return Decision(command.clip(-LARGEST, LARGEST), empty, empty[None], np.zeros(1), {"total": 0.0})

    def _plan(self, observation: np.ndarray) -> None:
        seen = torch.from_numpy(np.asarray(observation, np.float32))
        problems = Problems(seen[None, :3], seen[None, 3:6], seen[None, 6:9], seen[None, 9:].view(1, MAX_OBSTACLES, -1))
        config = BSplineConfig()
        paths = bspline.plan(problems, config)
        if not paths:
            raise ObservationError("no clear path leads from the quadrotor to the goal; move the goal")
        best = min(paths, key=lambda path: len(path.positions))
        self.path = best.positions.astype(np.float64)
        velocity = demonstrations.velocities(best, observation[3:6], CONTROL_DT)
        self._commands = np.concatenate((demonstrations.commands(velocity, CONTROL_DT), np.zeros((1, 3))))
