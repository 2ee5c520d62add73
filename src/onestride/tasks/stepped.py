"""A simulated robot whose physics is stepped to an injected clock's time whenever it is asked for something."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import threading
from abc import ABC, abstractmethod

import numpy as np
import torch

from onestride.robot.clock import Clock
from onestride.tasks.distance import signed_distance
from onestride.tasks.obstacles import FAR, Scene
from onestride.tasks.physics import mujoco


class SteppedRobot(ABC):
    """A robot in MuJoCo that follows commands in a scene. It says what it touched, and where it was.

    One thread may read while another one writes or stops. Methods of a subclass call ``advance`` first, within
    ``physics``.

    Args:
        scene: what is around the robot.
        clock: the time of the simulation.
        model: of the robot in the scene.
        chunk: physics steps between two rows of the recording.

    Attributes:
        physics: lock of the simulation.
        steps: physics steps since the reset.
        stopped: whether commands are refused.
        collided: whether the robot has touched something since the reset.
        rows: the recording: time [s], position (3) [m], qpos.
    """

    def __init__(self, scene: Scene, clock: Clock, model: mujoco.MjModel, chunk: int) -> None:
        self.scene, self.clock, self.model, self.chunk = scene, clock, model, chunk
        self.data = mujoco.MjData(model)
        self.physics = threading.Lock()
        self.steps, self.stopped, self.collided = 0, False, False
        self.rows: list[np.ndarray] = []
        self._epoch = 0.0
        self._clearance, self._measured = FAR, 0

    @abstractmethod
    def step(self, n: int) -> None:
        """Step the physics ``n`` times. ``steps`` counts them already."""

    @abstractmethod
    def position(self) -> np.ndarray:
        """Return where the robot is (3,) [m]."""

    def begin(self, qpos: np.ndarray) -> None:
        """Put the robot at rest at ``qpos``, and clear the recording."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        mujoco.mj_forward(self.model, self.data)
        self.collided = bool(self.data.ncon)
        self._epoch, self.steps, self.stopped = self.clock.now(), 0, False
        self.rows = []
        self._clearance, self._measured = FAR, 0
        self._record()

    def advance(self) -> None:
        """Step the physics to the clock's time."""
        timestep = self.model.opt.timestep
        due = round((self.clock.now() - self._epoch) / timestep)
        if due < self.steps:
            raise RuntimeError(f"the clock went back by {(self.steps - due) * timestep:.3f} s; use a monotonic one")
        while self.steps < due:
            n = min(self.chunk, due - self.steps)
            self.steps += n
            self.step(n)
            self.collided = self.collided or self.data.ncon > 0  # only the robot against the world makes contacts
            mujoco.mj_kinematics(self.model, self.data)
            self._record()

    def fault(self) -> str | None:
        """Return "collision" once a part of the robot has touched something, else None."""
        return "collision" if self.collided else None

    def checked(self, command: np.ndarray, what: str) -> np.ndarray:
        """Return a command (3,) in float64.

        Raises:
            ValueError: another shape, or a number that is not finite.
        """
        command = np.asarray(command, dtype=np.float64)
        if command.shape != (3,):
            raise ValueError(f"command has shape {command.shape}, expected (3,): {what}")
        if not np.isfinite(command).all():
            raise ValueError(f"command {command.tolist()} is not finite; the robot was not moved")
        return command

    def check_running(self) -> None:
        """Raise RuntimeError where the robot was stopped."""
        if self.stopped:
            raise RuntimeError("the robot is stopped; call reset() before the next command")

    # --- the recording ---

    def _record(self) -> None:
        self.rows.append(np.concatenate(((self.steps * self.model.opt.timestep,), self.position(), self.data.qpos)))

    @property
    def times(self) -> np.ndarray:
        """Time of each recorded row since the reset, at least every ``chunk`` steps (N,) [s]."""
        return np.array(self.rows)[:, 0]

    @property
    def ee_path(self) -> np.ndarray:
        """Recorded positions (N, 3) [m]."""
        return np.array(self.rows)[:, 1:4]

    @property
    def joint_path(self) -> np.ndarray:
        """Recorded generalised coordinates (N, nq), such as angles of joints [rad]."""
        return np.array(self.rows)[:, 4:]

    @property
    def min_clearance_ee(self) -> float:
        """Smallest signed distance from the robot's position to an obstacle so far [m], at most ``FAR``."""
        fresh = self.rows[self._measured :]
        if fresh:
            points = torch.from_numpy(np.array(fresh)[:, 1:4])
            distance = signed_distance(points, torch.from_numpy(self.scene.obstacles).to(points.dtype))
            self._clearance = min(self._clearance, distance.min().item())
            self._measured = len(self.rows)
        return self._clearance
