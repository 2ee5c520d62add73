"""A simulated Gen3 that follows Cartesian position targets, as the real one does in its servoing mode.

A target becomes joint angles by inverse kinematics; the joint reference moves there in a straight line over one
control period, or slower where a joint's speed limit says so, and stays. Time comes from an injected clock: every
call first steps the physics up to ``clock.now()``.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import threading

import numpy as np
import torch

from onestride.robot.clock import Clock
from onestride.tasks.kinova.arm import (
    CAMERA,
    DAMPING,
    KP,
    KV,
    LINKS,
    TIMESTEP,
    TOOL,
    VELOCITY_LIMITS,
    InverseKinematics,
    build_model,
)
from onestride.tasks.kinova.distance import signed_distance
from onestride.tasks.kinova.scene import FAR, MAX_OBSTACLES, Scene
from onestride.tasks.physics import mujoco, no_renderer

CHUNK = 5  # physics steps between two updates of the servo; the recording keeps one row for each
CLEARANCE_STRIDE = 3  # every so many recorded rows the whole arm's clearance is measured (15 ms)
MOVING_GEOMS = (*(link.name for link in LINKS), "tool")

_FEED_FORWARD = (KV + DAMPING) / KP  # [s]: makes up for the damping that a moving reference feels


class SimulatedArm:
    """The arm at rest at ``scene.start``, then wherever ``write`` sends it.

    ``read() -> (41,)``: position of the tool (3) [m], its velocity (3) [m/s], the goal (3) [m], the obstacles (32).
    ``write(target (3,))`` [m]: where the tool should be one ``control_dt`` [s] from now.
    ``stop()``: freeze here; ``reset()`` starts the scene over. One thread may read while another writes or stops.
    """

    def __init__(self, scene: Scene, clock: Clock, control_dt: float = 0.05) -> None:
        self.scene, self.clock, self.control_dt = scene, clock, control_dt
        self._physics = threading.Lock()
        self.model = build_model(scene.obstacles, scene.goal)
        self.data = mujoco.MjData(self.model)
        self._site = self.model.site(TOOL).id
        self._ik = InverseKinematics(self.model)
        self._q_start, error = self._ik.start(scene.start)
        if error > 1e-4:
            raise ValueError(
                f"the arm cannot reach scene.start {np.round(scene.start, 4).tolist()} m with the tool down "
                f"({1000 * error:.1f} mm short); take a start inside the workspace box"
            )
        self._constant = np.concatenate((scene.goal, scene.obstacles.ravel()))  # (35,)
        self.reset()

    # --- the robot protocol ---

    def reset(self) -> None:
        """Put the arm back at rest at ``scene.start``, now, and forget what was recorded."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._q_start
        mujoco.mj_forward(self.model, self.data)
        self.collided = bool(self.data.ncon)
        self.ik_error = 0.0  # of the last target: how far from it the tool will come to rest [m]
        self._epoch, self._steps, self._stopped = self.clock.now(), 0, False
        self._from = self._to = self._reference = self._q_start
        self._departure, self._duration = 0, 1.0  # of the reference's segment, in physics steps
        self._rows: list[np.ndarray] = []
        self._ee_clearance, self._ee_measured = FAR, 0
        self._arm_clearance, self._arm_measured = FAR, 0
        self._record()

    def read(self) -> np.ndarray:
        """What the arm and the scene are now. (41,)"""
        with self._physics:
            self._advance()
            mujoco.mj_comPos(self.model, self.data)
            jacobian = np.empty((3, 7))
            mujoco.mj_jacSite(self.model, self.data, jacobian, None, self._site)
            return np.concatenate((self.data.site_xpos[self._site], jacobian @ self.data.qvel, self._constant))

    def write(self, command: np.ndarray) -> None:
        """Send the tool to ``command`` (3,) [m]. A target out of reach ends at the nearest pose found."""
        command = np.asarray(command, dtype=np.float64)
        if command.shape != (3,):
            raise ValueError(f"command has shape {command.shape}, expected (3,): the tool's position [m]")
        if not np.isfinite(command).all():
            raise ValueError(f"command {command.tolist()} is not finite; the arm was not moved")
        with self._physics:
            self._advance()
            if self._stopped:
                raise RuntimeError("the arm is stopped; call reset() before the next command")
            target, self.ik_error = self._ik.solve(self._reference, command)
            needed = np.abs((target - self._reference) / VELOCITY_LIMITS).max()  # [s]
            self._from, self._to = self._reference, target
            self._departure, self._duration = self._steps, max(self.control_dt, needed) / TIMESTEP

    def stop(self) -> None:
        """Freeze the joint reference where it is; writing raises until ``reset``."""
        with self._physics:
            self._advance()
            self._from = self._to = self._reference
            self._stopped = True

    def fault(self) -> str | None:
        """ "collision" once any part of the arm has touched an obstacle or the table."""
        return "collision" if self.collided else None

    # --- the servo ---

    def _advance(self) -> None:
        """Step the physics to the clock's time."""
        due = round((self.clock.now() - self._epoch) / TIMESTEP)
        if due < self._steps:
            raise RuntimeError(f"the clock went back by {(self._steps - due) * TIMESTEP:.3f} s; use a monotonic one")
        model, data = self.model, self.data
        while self._steps < due:
            n = min(CHUNK, due - self._steps)
            self._steps += n
            progress = min(1.0, (self._steps - self._departure) / self._duration)
            reference = self._from + progress * (self._to - self._from)
            speed = (reference - self._reference) / (n * TIMESTEP)
            data.ctrl[:] = (reference + self._reference) / 2 + _FEED_FORWARD * speed
            self._reference = reference
            mujoco.mj_step(model, data, nstep=n)
            self.collided = self.collided or data.ncon > 0  # only arm against table or obstacle makes contacts
            mujoco.mj_kinematics(model, data)
            self._record()

    # --- the recording ---

    def _record(self) -> None:
        data = self.data
        self._rows.append(np.concatenate(((self._steps * TIMESTEP,), data.site_xpos[self._site], data.qpos)))

    @property
    def times(self) -> np.ndarray:
        """When each row of the paths was recorded, from the reset on, at least every 5 ms. (N,) [s]"""
        return np.array(self._rows)[:, 0]

    @property
    def ee_path(self) -> np.ndarray:
        """Where the tool has been. (N, 3) [m]"""
        return np.array(self._rows)[:, 1:4]

    @property
    def joint_path(self) -> np.ndarray:
        """Where the joints have been. (N, 7) [rad]"""
        return np.array(self._rows)[:, 4:]

    @property
    def min_clearance_ee(self) -> float:
        """Smallest signed distance from the tool's tip to an obstacle so far [m], at most ``FAR``."""
        fresh = self._rows[self._ee_measured :]
        if fresh:
            points = torch.from_numpy(np.array(fresh)[:, 1:4])
            distance = signed_distance(points, torch.from_numpy(self.scene.obstacles).to(points.dtype))
            self._ee_clearance = min(self._ee_clearance, distance.min().item())
            self._ee_measured = len(self._rows)
        return self._ee_clearance

    @property
    def min_clearance_arm(self) -> float:
        """Smallest distance of any moving part to an obstacle so far [m], negative in contact, at most ``FAR``."""
        fresh = range(self._arm_measured, len(self._rows), CLEARANCE_STRIDE)
        if fresh:
            path = np.array([self._rows[i][4:] for i in fresh])
            self._arm_clearance = arm_clearance(self.model, path, self._arm_clearance)
            self._arm_measured = fresh[-1] + CLEARANCE_STRIDE
        return self._arm_clearance


def arm_clearance(model: mujoco.MjModel, joints: np.ndarray, ceiling: float = FAR) -> float:
    """Smallest distance [m] of the arm's moving parts to the obstacles of ``model`` over ``joints`` (N, 7).

    Distances above ``ceiling`` are not looked for; it is returned when there is none below.
    """
    arm = [model.geom(name).id for name in MOVING_GEOMS]
    named = (mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"obstacle{k}") for k in range(MAX_OBSTACLES))
    obstacles = [i for i in named if i >= 0]
    if not obstacles:
        return ceiling
    data = mujoco.MjData(model)
    reach = model.geom_rbound[arm][:, None] + model.geom_rbound[obstacles]  # (A, K)
    for q in joints:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        apart = np.linalg.norm(data.geom_xpos[arm][:, None] - data.geom_xpos[obstacles], axis=-1)
        for a, k in np.argwhere(apart - reach < ceiling):  # bounding spheres say which pairs could be nearer
            ceiling = min(ceiling, mujoco.mj_geomDistance(model, data, arm[a], obstacles[k], ceiling, None))
    return float(ceiling)


def render_frames(
    scene: Scene, joint_path: np.ndarray, times: np.ndarray, width: int, height: int, fps: float
) -> list[np.ndarray]:
    """Film a recorded motion: ``joint_path`` (N, 7) at ``times`` (N,) [s] -> frames (height, width, 3) uint8."""
    model = build_model(scene.obstacles, scene.goal)
    data = mujoco.MjData(model)
    try:
        renderer = mujoco.Renderer(model, height, width)
    except (mujoco.FatalError, RuntimeError, ImportError, AttributeError) as error:  # by backend
        raise RuntimeError(
            f"no renderer here ({no_renderer or error}); on a machine without a display set MUJOCO_GL=egl before "
            "Python starts (package libegl1), or MUJOCO_GL=osmesa (package libosmesa6)"
        ) from error
    frames = []
    with renderer:
        for t in np.arange(times[0], times[-1] + 0.5 / fps, 1 / fps):
            data.qpos[:] = [np.interp(t, times, angle) for angle in joint_path.T]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=CAMERA)
            frames.append(renderer.render())
    return frames
