"""A simulated quadrotor that follows velocity commands, as a Crazyflie does in its commander's velocity mode.

A command is the velocity to head for. From the position and velocity at which the command comes, a reference moves on
for one control period with the acceleration that approaches that velocity with the time constant ``RESPONSE``. Without
a further command it then brakes and hovers. The geometric controller follows the reference at every step of the
physics. Time comes from an injected clock.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np

from onestride.robot.clock import Clock
from onestride.tasks.physics import mujoco
from onestride.tasks.quadrotor.controller import GeometricController
from onestride.tasks.quadrotor.model import TIMESTEP, build_model
from onestride.tasks.quadrotor.scene import ACCELERATION, BODY_RADIUS, CONTROL_DT, RESPONSE, Scene
from onestride.tasks.stepped import SteppedRobot

CHUNK = 2  # physics steps between two recorded rows (5 ms)
HARDEST = 2.5 * ACCELERATION  # acceleration that a command may ask for [m/s^2]


class SimulatedQuadrotor(SteppedRobot):
    """A simulated quadrotor that hovers at the scene's start.

    One thread may read while another one writes or stops.

    Args:
        scene: what is around it.
        clock: the time of the simulation.
        control_dt: for how long a command holds [s].
        controller: follows the reference.

    Raises:
        ValueError: the start lies within an obstacle.
    """

    def __init__(
        self, scene: Scene, clock: Clock, control_dt: float = CONTROL_DT, controller: GeometricController | None = None
    ) -> None:
        super().__init__(scene, clock, build_model(scene.obstacles, scene.goal), CHUNK)
        self.control_dt, self.controller = control_dt, controller or GeometricController()
        self._constant = np.concatenate((scene.goal, scene.obstacles.ravel()))  # (51,)
        self._rotation = np.empty(9)
        self.reset()
        if self.collided:
            raise ValueError(
                f"scene.start {np.round(scene.start, 3).tolist()} m touches an obstacle or the room; take a clear one"
            )

    # --- the robot protocol ---

    def reset(self) -> None:
        """Put the quadrotor at rest at the scene's start and clear the recording."""
        self._take(self.scene.start, np.zeros(3), np.zeros(3), 0)
        self.begin(np.concatenate((self.scene.start, (1.0, 0.0, 0.0, 0.0))))

    def read(self) -> np.ndarray:
        """Return the observation (57,).

        It is position (3) [m] and velocity (3) [m/s], the goal (3) [m], and the obstacles (48).
        """
        with self.physics:
            self.advance()
            return np.concatenate((self.data.qpos[:3], self.data.qvel[:3], self._constant))

    def write(self, command: np.ndarray) -> None:
        """Head for the velocity ``command`` (3,) [m/s] for ``control_dt``, then brake.

        Raises:
            ValueError: another shape, or a number that is not finite.
            RuntimeError: the quadrotor was stopped.
        """
        command = self.checked(command, "a velocity [m/s]")
        with self.physics:
            self.advance()
            self.check_running()
            self._go(command)

    def stop(self) -> None:
        """Brake and hover. Commands are refused until ``reset``."""
        with self.physics:
            self.advance()
            if not self.stopped:
                self._go(np.zeros(3))
                self.stopped = True

    # --- the reference ---

    def _go(self, velocity: np.ndarray) -> None:
        now = self.data.qvel[:3].copy()
        pull = (velocity - now) / RESPONSE
        hardness = float(np.linalg.norm(pull))
        if hardness > HARDEST:
            pull *= HARDEST / hardness
        self._take(self.data.qpos[:3].copy(), now, pull, self.steps)

    def _take(self, position: np.ndarray, velocity: np.ndarray, pull: np.ndarray, steps: int) -> None:
        """Begin a reference at a position and velocity, with an acceleration for one control period."""
        self._from, self._speed, self._pull, self._departure = position, velocity, pull, steps

    def reference(self, after: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return position [m], velocity [m/s] and acceleration [m/s^2] so long [s] after the last command."""
        dt, pull = min(after, self.control_dt), self._pull
        position, velocity = self._from + (self._speed + 0.5 * dt * pull) * dt, self._speed + pull * dt
        if after <= self.control_dt:
            return position, velocity, pull
        speed = float(np.linalg.norm(velocity))
        rest = after - self.control_dt
        if speed <= ACCELERATION * rest:  # it stands
            return position + velocity * (0.5 * speed / ACCELERATION), np.zeros(3), np.zeros(3)
        brake = velocity * (-ACCELERATION / speed)
        return position + (velocity + 0.5 * rest * brake) * rest, velocity + brake * rest, brake

    def step(self, n: int) -> None:
        """Follow the reference for ``n`` steps of the physics."""
        model, data = self.model, self.data
        for k in range(self.steps - n, self.steps):
            mujoco.mju_quat2Mat(self._rotation, data.qpos[3:7])
            data.ctrl[:] = self.controller(
                data.qpos[:3], data.qvel[:3], self._rotation.reshape(3, 3), data.qvel[3:6],
                self.reference((k - self._departure) * TIMESTEP),
            )  # fmt: skip
            mujoco.mj_step(model, data)

    def position(self) -> np.ndarray:
        """Return where the quadrotor is (3,) [m]."""
        return self.data.qpos[:3]

    @property
    def min_clearance(self) -> float:
        """Smallest distance of a sphere around the airframe to an obstacle so far [m], negative within."""
        return self.min_clearance_ee - BODY_RADIUS
