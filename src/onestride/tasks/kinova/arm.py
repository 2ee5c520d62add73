"""The Kinova Gen3 arm on a table: its MuJoCo model, its inverse kinematics, and its body as a few spheres.

The model is made of the manufacturer's numbers (link offsets, masses, limits) and of primitive shapes, so that nothing
is downloaded. Everything is in the base frame, in metres and radians, with z up. The base stands on the table plane
z = 0. During the task the tool points straight down, the elbow is up, and the arm lies in the vertical plane through
the base's axis and the tool. Joint 3 at pi ensures that, and there is one configuration for each position.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from onestride.tasks.physics import mujoco  # first: mink imports MuJoCo too

# isort: split
import mink
import numpy as np
import torch
from torch import Tensor

from onestride.tasks.kinova.links import (
    BASE_MASS,
    BASE_RADIUS,
    DAMPING,
    FOREARM,
    JOINTS,
    LINKS,
    SHOULDER_HEIGHT,
    TOOL_OFFSET,
    TOOL_RADIUS,
    UPPER_ARM,
    VELOCITY_LIMITS,
    WRIST_HEIGHT,
)
from onestride.tasks.kinova.scene import MAX_OBSTACLES
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.scenery import ROBOT_BIT, UNSEEN_BY_CONTACT, add_goal, add_obstacle, dress

TIMESTEP = 0.001  # of the physics [s]
TOOL = "tool"  # the end-effector site, at the tip of the tool, its z axis pointing out of the tool

#: The vendor's home pose: elbow up, the tool pointing forward. (7,) [rad]
HOME = np.array([0.0, 0.2618, np.pi, -2.2689, 0.0, 0.9599, np.pi / 2])
#: The task's posture: elbow up, the tool pointing down near (0.4, 0, 0.2) m. (7,) [rad]
READY = np.array([0.0, 0.607, np.pi, -1.955, 0.0, -0.58, 0.0])

# --- the model ---------------------------------------------------------------------------------------------------

_GEOM = mujoco.mjtGeom


def build_model(obstacles: np.ndarray, goal: np.ndarray | None = None) -> mujoco.MjModel:
    """Return the model of the arm, the table, the obstacles and a mark at the goal.

    Args:
        obstacles: (4, 8), see ``scene.py``. Row ``k`` becomes the geom ``obstacle{k}`` unless it is absent.
        goal: (3,) [m], or None for no mark.

    Raises:
        ValueError: the obstacles have another shape, or an unknown kind.
    """
    obstacles = np.asarray(obstacles, dtype=np.float64)
    if obstacles.shape != (MAX_OBSTACLES, OBSTACLE_DIM):
        raise ValueError(
            f"obstacles have shape {obstacles.shape}, expected {(MAX_OBSTACLES, OBSTACLE_DIM)}; "
            "fill unused rows with zeros (kind 0: absent)"
        )
    spec = mujoco.MjSpec()
    spec.modelname = "gen3"
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    dress(spec, "table", eye=(1.45, -0.85, 0.80), gaze=(0.28, 0.03, 0.27), fovy=34)
    _add_arm(spec)
    for k, row in enumerate(obstacles):
        add_obstacle(spec, f"obstacle{k}", row)
    if goal is not None:
        add_goal(spec, goal, 0.015)
    return spec.compile()


def _add_arm(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="base")
    body.add_geom(
        name="base", type=_GEOM.mjGEOM_CYLINDER, size=[BASE_RADIUS, 0, 0], fromto=[0, 0, 0, 0, 0, 0.12],
        mass=BASE_MASS, material="joint", **ROBOT_BIT,
    )  # fmt: skip
    ends = [link.offset for link in LINKS[1:]] + [TOOL_OFFSET]
    for link, joint, end in zip(LINKS, JOINTS, ends, strict=True):
        half = np.deg2rad(link.tilt) / 2
        body = body.add_body(name=link.name, pos=link.offset, quat=[np.cos(half), np.sin(half), 0, 0], gravcomp=1)
        limited = np.isfinite(link.limit)
        body.add_joint(
            name=joint, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], armature=link.armature, damping=DAMPING,
            limited=limited, range=[-link.limit, link.limit] if limited else [0, 0],
        )  # fmt: skip
        end = np.array(end)
        if link.name == "wrist_2":  # its round end stops where the slimmer bracelet begins
            end[1] += link.radius
        if link.name == "bracelet":
            end = np.array([0.0, 0.0, -0.005])
        body.add_geom(
            name=link.name, type=_GEOM.mjGEOM_CAPSULE, size=[link.radius, 0, 0], fromto=[0, 0, 0, *end],
            mass=link.mass, material="shell", **ROBOT_BIT,
        )  # fmt: skip
        if abs(link.tilt) == 180 or link.tilt < 0:  # a joint along the arm shows as a dark ring
            body.add_geom(
                type=_GEOM.mjGEOM_CYLINDER, size=[link.radius + 0.0015, 0, 0], fromto=[0, 0, 0.006, 0, 0, -0.006],
                material="joint", **UNSEEN_BY_CONTACT,
            )  # fmt: skip
        actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=link.kp, kv=link.kv)
        actuator.forcelimited, actuator.forcerange = True, [-link.torque, link.torque]
    body.add_geom(
        name="tool", type=_GEOM.mjGEOM_CAPSULE, size=[TOOL_RADIUS, 0, 0],
        fromto=[0, 0, -0.02, 0, 0, TOOL_OFFSET[2] + TOOL_RADIUS], mass=0, material="joint", **ROBOT_BIT,
    )  # fmt: skip
    body.add_site(name=TOOL, pos=TOOL_OFFSET, quat=[0, 1, 0, 0], size=[0.002, 0.002, 0.002])


# --- kinematics --------------------------------------------------------------------------------------------------


def tool_down(position: np.ndarray) -> mink.SE3:
    """Return the tool's pose at a position (3,) [m], with z down and its yaw that of the base turned to it."""
    yaw = np.arctan2(position[1], position[0])
    down = mink.SO3.from_z_radians(yaw) @ mink.SO3.from_x_radians(np.pi)
    return mink.SE3.from_rotation_and_translation(down, np.asarray(position, dtype=np.float64))


class InverseKinematics:
    """Finds joint angles that put the tool at a position, pointing down, with a planar arm and the elbow up.

    It is differential: every iteration is one quadratic program from a nearby configuration.
    """

    step = 0.25  # the joints move at most VELOCITY_LIMITS times this in one iteration [s]

    def __init__(self, model: mujoco.MjModel) -> None:
        self.configuration = mink.Configuration(model)
        self._site = model.site(TOOL).id
        self._pose = mink.FrameTask(TOOL, "site", position_cost=10.0, orientation_cost=1.0)
        # Position and orientation take six joints of seven; the third one, held at pi, is the swivel of the elbow.
        posture = mink.PostureTask(model, cost=np.array([0, 0, 0.05, 0, 0, 0, 0]))
        posture.set_target(READY)
        self._tasks = (self._pose, posture)
        speeds = dict(zip(JOINTS, VELOCITY_LIMITS, strict=True))
        self._limits = (mink.ConfigurationLimit(model), mink.VelocityLimit(model, speeds))

    def start(self, position: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the same as ``solve`` without a nearby configuration, with an accuracy of a micrometre."""
        toward = READY.copy()
        toward[0] = -np.arctan2(position[1], position[0])  # joint 1 turns about an axis that points down
        return self.solve(toward, position, tolerance=1e-6, max_iterations=100)

    def solve(
        self, q: np.ndarray, position: np.ndarray, tolerance: float = 1e-4, max_iterations: int = 25
    ) -> tuple[np.ndarray, float]:
        """Return joint angles (7,) [rad] and the tool's remaining distance to ``position`` [m].

        Args:
            q: joint angles to begin with (7,) [rad].
            position: of the tool (3,) [m].
            tolerance: distance at which to stop [m].
            max_iterations: number of steps after which to stop.
        """
        self._pose.set_target(tool_down(position))
        configuration = self.configuration
        configuration.update(q)
        for _ in range(max_iterations):
            if self._error(position) < tolerance:
                break
            velocity = mink.solve_ik(configuration, self._tasks, self.step, "daqp", limits=self._limits)
            configuration.integrate_inplace(velocity, self.step)
        return configuration.q.copy(), self._error(position)

    def _error(self, position: np.ndarray) -> float:
        return float(np.linalg.norm(self.configuration.data.site_xpos[self._site] - position))


# --- the body, for planning --------------------------------------------------------------------------------------

#: Places of the samples on the column, as fractions of the way from the tip to the wrist centre ...
_COLUMN = torch.tensor([0.0, 0.2, 0.45, 0.72])
#: ... and on the forearm, from the wrist centre to the elbow.
_FOREARM = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
RISE = WRIST_HEIGHT * torch.cat((_COLUMN, torch.ones(5)))
FOREARM_SHARE = torch.cat((torch.zeros(4), _FOREARM))
#: Radii of the spheres around ``body_points`` that contain the tool, the wrist and the forearm. (P,) [m]
BODY_RADII = torch.tensor([0.026, 0.038, 0.044, 0.053, 0.055, 0.059, 0.061, 0.063, 0.063])


def body_points(tool: Tensor) -> Tensor:
    """Return points of the arm's body ``(..., P, 3)`` for tool positions ``(..., 3)`` [m], differentiable.

    The tip is the first and the elbow the last. The arm is planar: a column from the tip straight up to the wrist
    centre, and the triangle of shoulder, elbow and wrist centre in the vertical plane through the base's axis and the
    tool. Beyond its reach the arm is stretched towards the wrist centre.
    """
    return torch.stack(body_coordinates(tool), -1)


def body_coordinates(tool: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and z of ``body_points``, each ``(..., P)``, because a last axis of three is slow."""
    x, y, z = tool.unbind(-1)
    radius = (x.square() + y.square()).sqrt().clamp(min=1e-6)
    height = z + (WRIST_HEIGHT - SHOULDER_HEIGHT)  # of the wrist centre above the shoulder
    distance = (radius.square() + height.square()).sqrt()
    cosine = (distance.square() + (UPPER_ARM**2 - FOREARM**2)) / (2 * UPPER_ARM * distance)
    lift = torch.atan2(height, radius) + torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))  # of the upper arm
    # From the wrist centre to the elbow: outward along the tool's own direction, and up.
    outward = UPPER_ARM * lift.cos() / radius - 1.0
    to_elbow = (outward * x, outward * y, UPPER_ARM * lift.sin() - height)
    share, rise = FOREARM_SHARE.to(tool), RISE.to(tool)  # (P,)
    x, y, z = (
        (at[..., None] if up is None else at[..., None] + up) + share * way[..., None]
        for at, up, way in zip((x, y, z), (None, None, rise), to_elbow, strict=True)
    )
    return x, y, z
