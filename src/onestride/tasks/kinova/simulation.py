"""A simulated Gen3 that follows Cartesian position targets, as the real one does in its servoing mode.

A target becomes joint angles by inverse kinematics. The joints' reference moves there linearly in one control period,
or in a longer time where a joint's speed limit requires it, and stays there. Time comes from an injected clock: every
call first steps the physics to ``clock.now()``.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np

from onestride.robot.clock import Clock
from onestride.tasks import scenery
from onestride.tasks.kinova.arm import TIMESTEP, TOOL, InverseKinematics, build_model
from onestride.tasks.kinova.links import DAMPING, KP, KV, LINKS, VELOCITY_LIMITS
from onestride.tasks.kinova.scene import MAX_OBSTACLES, WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from onestride.tasks.obstacles import ABSENT, BOX, FAR, OBSTACLE_DIM, SPHERE, check_problem
from onestride.tasks.physics import mujoco
from onestride.tasks.stepped import SteppedRobot

CHUNK = 5  # physics steps between two updates of the servo, each with one recorded row
CLEARANCE_STRIDE = 3  # recorded rows between two measurements of the whole arm's clearance (15 ms)
MOVING_GEOMS = (*(link.name for link in LINKS), "tool")

_FEED_FORWARD = (KV + DAMPING) / KP  # compensates the damping of a moving reference [s]


class SimulatedArm(SteppedRobot):
    """A simulated arm that starts at rest at the scene's start.

    One thread may read while another one writes or stops.

    Args:
        scene: what is around the arm.
        clock: the time of the simulation.
        control_dt: time in which a target is reached [s].

    Raises:
        ValueError: the arm cannot reach the start.
    """

    def __init__(self, scene: Scene, clock: Clock, control_dt: float = 0.05) -> None:
        super().__init__(scene, clock, build_model(scene.obstacles, scene.goal), CHUNK)
        self.control_dt = control_dt
        self._site = self.model.site(TOOL).id
        self._ik = InverseKinematics(self.model)
        self._q_start, error = self._ik.start(scene.start)
        if error > 1e-4:
            raise ValueError(
                f"the arm cannot reach scene.start {np.round(scene.start, 4).tolist()} m with the tool down "
                f"({1000 * error:.1f} mm short); take a start inside the workspace box"
            )
        self._obstacles = scene.obstacles.ravel()
        self.goal = scene.goal  # (3,) [m]
        self.reset()

    # --- the robot protocol ---

    def reset(self) -> None:
        """Put the arm at rest at the scene's start and clear the recording."""
        self.ik_error = 0.0  # of the last target: how far from it the tool will come to rest [m]
        self._from = self._to = self._reference = self._q_start
        self._departure, self._duration = 0, 1.0  # of the reference's segment, in physics steps
        self._arm_clearance, self._arm_measured = FAR, 0
        self.begin(self._q_start)

    def read(self) -> np.ndarray:
        """Return the observation (41,).

        It is the tool's position (3) [m] and velocity (3) [m/s], the goal (3) [m], and the obstacles (32).
        """
        with self.physics:
            self.advance()
            mujoco.mj_comPos(self.model, self.data)
            jacobian = np.empty((3, 7))
            mujoco.mj_jacSite(self.model, self.data, jacobian, None, self._site)
            return np.concatenate((self.position(), jacobian @ self.data.qvel, self.goal, self._obstacles))

    def write(self, command: np.ndarray) -> None:
        """Move the tool to ``command`` (3,) [m] within ``control_dt``, or to the nearest pose where it is out of reach.

        Raises:
            ValueError: another shape, or a number that is not finite.
            RuntimeError: the arm was stopped.
        """
        command = self.checked(command, "the tool's position [m]")
        with self.physics:
            self.advance()
            self.check_running()
            target, self.ik_error = self._ik.solve(self._reference, command)
            needed = np.abs((target - self._reference) / VELOCITY_LIMITS).max()  # [s]
            self._from, self._to = self._reference, target
            self._departure, self._duration = self.steps, max(self.control_dt, needed) / TIMESTEP

    def stop(self) -> None:
        """Hold the joints where they are. Commands are refused until ``reset``."""
        with self.physics:
            self.advance()
            self._from = self._to = self._reference
            self.stopped = True

    def place(self, name: str, position: np.ndarray) -> None:
        """Move the goal or an obstacle of the world, as a hand would.

        Args:
            name: "goal" or "obstacle0" ... "obstacle3".
            position: its new centre (3,) [m]; a goal's is clipped to the workspace.

        Raises:
            ValueError: there is no such thing, or the goal would lie inside an obstacle.
        """
        obstacles, goal = self._obstacles.reshape(MAX_OBSTACLES, OBSTACLE_DIM).copy(), self.goal
        if name == "goal":
            goal = np.clip(np.asarray(position, np.float64), WORKSPACE_LOW, WORKSPACE_HIGH)
            geom, centre = self.model.geom("goal").id, goal
        else:
            names = [f"obstacle{k}" for k, row in enumerate(obstacles) if row[0] != ABSENT]
            if name not in names:
                raise ValueError(f"there is no '{name}' in this scene; there are {', '.join(('goal', *names))}")
            geom, centre = self.model.geom(name).id, np.asarray(position, np.float64)
            obstacles[int(name.removeprefix("obstacle")), 1:4] = centre
        check_problem(goal, obstacles, WORKSPACE_LOW, WORKSPACE_HIGH, (ABSENT, SPHERE, BOX))
        with self.physics:
            self.advance()
            # What was computed of the world's geoms when it was compiled holds no more: contacts are looked for in all.
            self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
            self.model.geom_pos[geom] = centre
            self.goal, self._obstacles = goal, obstacles.ravel()

    # --- the servo ---

    def step(self, n: int) -> None:
        """Move the joints' reference on, and step the physics ``n`` times."""
        progress = min(1.0, (self.steps - self._departure) / self._duration)
        reference = self._from + progress * (self._to - self._from)
        speed = (reference - self._reference) / (n * TIMESTEP)
        self.data.ctrl[:] = (reference + self._reference) / 2 + _FEED_FORWARD * speed
        self._reference = reference
        mujoco.mj_step(self.model, self.data, nstep=n)

    def position(self) -> np.ndarray:
        """Return where the tool is (3,) [m]."""
        return self.data.site_xpos[self._site]

    @property
    def min_clearance_arm(self) -> float:
        """Smallest distance of any moving part to an obstacle so far [m], negative in contact, at most ``FAR``."""
        fresh = range(self._arm_measured, len(self.rows), CLEARANCE_STRIDE)
        if fresh:
            path = np.array([self.rows[i][4:] for i in fresh])
            self._arm_clearance = arm_clearance(self.model, path, self._arm_clearance)
            self._arm_measured = fresh[-1] + CLEARANCE_STRIDE
        return self._arm_clearance


def arm_clearance(model: mujoco.MjModel, joints: np.ndarray, ceiling: float = FAR) -> float:
    """Return the smallest distance of the arm's moving parts to the obstacles along a motion [m].

    Args:
        model: of the arm and the obstacles.
        joints: angles (N, 7) [rad].
        ceiling: returned where no distance is smaller [m].
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
    """Return pictures of a recorded motion, each (height, width, 3) uint8.

    Args:
        scene: what is around the arm.
        joint_path: angles (N, 7) [rad].
        times: of the angles (N,) [s].
        width: of a picture [pixels].
        height: of a picture [pixels].
        fps: pictures per second [Hz].

    Raises:
        RuntimeError: no renderer works here.
    """
    return scenery.render_frames(build_model(scene.obstacles, scene.goal), joint_path, times, width, height, fps)
