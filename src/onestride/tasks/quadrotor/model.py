"""The quadrotor's MuJoCo model: a Crazyflie 2's numbers, primitive shapes, a room around it.

Mass, inertia and the range of thrust are those of MuJoCo Menagerie's ``bitcraze_crazyflie_2``, which has them from
Bitcraze's and Foerster's measurements (System Identification of the Crazyflie 2.0 Nano Quadrocopter, 2015). So are the
Runge-Kutta integrator and the air's density and viscosity. Menagerie's limits of the moments are numbers without unit;
those here are what four rotors 33 mm off the axes do at most while they carry the weight.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np

from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.physics import mujoco
from onestride.tasks.quadrotor.scene import BODY_RADIUS, MAX_OBSTACLES, ROOM_HIGH, ROOM_LOW
from onestride.tasks.scenery import ROBOT_BIT, UNSEEN_BY_CONTACT, WORLD_BIT, add_goal, add_obstacle, dress

TIMESTEP = 0.0025  # of the physics and of the controller inside [s]
BODY = "quadrotor"
MASS = 0.027  # [kg]
INERTIA = np.array([2.3951e-5, 2.3951e-5, 3.2347e-5])  # about its axes (3,) [kg m^2]
MAX_THRUST = 0.35  # of all rotors [N]
GRAVITY = 9.81  # [m/s^2]
HOVER_THRUST = MASS * GRAVITY  # 0.26487 N
#: Roll and pitch: two rotors give up to 0.02 N more and two as much less, 33 mm off the axis. Yaw: their drag, a
#: fortieth of a metre times thrust. (3,) [N m]
MAX_MOMENT = np.array([2.6e-3, 2.6e-3, 5e-4])
AIR_DENSITY, AIR_VISCOSITY = 1.225, 1.8e-5  # [kg/m^3], [Pa s]
ARM = 0.0325  # of a rotor, from each axis [m]
HULL_HALF_HEIGHT = 0.015  # [m]

_GEOM = mujoco.mjtGeom


def build_model(obstacles: np.ndarray, goal: np.ndarray | None = None) -> mujoco.MjModel:
    """Return the model of the quadrotor, the room, the obstacles and a mark at the goal.

    Its four controls are thrust [N] and the moments about the body's axes [N m].

    Args:
        obstacles: (6, 8), see ``tasks/obstacles.py``. Row ``k`` becomes the geom ``obstacle{k}`` unless it is absent.
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
    spec.modelname = BODY
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
    spec.option.gravity = [0.0, 0.0, -GRAVITY]
    spec.option.density, spec.option.viscosity = AIR_DENSITY, AIR_VISCOSITY
    dress(spec, "floor", eye=(-1.2, -6.4, 4.4), gaze=(0.15, 0.0, 0.6), fovy=38)
    _add_walls(spec)
    _add_quadrotor(spec)
    for k, row in enumerate(obstacles):
        add_obstacle(spec, f"obstacle{k}", row)
    if goal is not None:
        add_goal(spec, goal, 0.05)
    return spec.compile()


def _add_walls(spec: mujoco.MjSpec) -> None:
    """Add four walls and the ceiling, unseen."""
    for axis, name in enumerate("xyz"):
        for sign, at in ((1.0, ROOM_LOW[axis]), (-1.0, ROOM_HIGH[axis])):
            if name == "z" and sign > 0:
                continue  # the floor is there
            pos, normal = np.zeros(3), np.zeros(3)
            pos[axis], normal[axis] = at, sign
            quat = np.empty(4)
            mujoco.mju_quatZ2Vec(quat, normal)
            spec.worldbody.add_geom(
                name=f"{'low' if sign > 0 else 'high'} {name}", type=_GEOM.mjGEOM_PLANE, pos=pos, quat=quat,
                size=[3, 3, 0.1], rgba=[0, 0, 0, 0], **WORLD_BIT,
            )  # fmt: skip


def _add_quadrotor(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name=BODY, mass=MASS, inertia=INERTIA, explicitinertial=True)
    body.add_freejoint(name=BODY)
    body.add_geom(
        name="hull", type=_GEOM.mjGEOM_CYLINDER, size=[BODY_RADIUS, HULL_HALF_HEIGHT, 0], mass=0,
        rgba=[0, 0, 0, 0], **ROBOT_BIT,
    )  # fmt: skip
    body.add_geom(
        name="board", type=_GEOM.mjGEOM_BOX, size=[0.016, 0.016, 0.008], material="joint", **UNSEEN_BY_CONTACT
    )
    for x, y in ((ARM, ARM), (ARM, -ARM), (-ARM, ARM), (-ARM, -ARM)):
        body.add_geom(
            type=_GEOM.mjGEOM_CAPSULE, size=[0.004, 0, 0], fromto=[0, 0, 0, x, y, 0], material="joint",
            **UNSEEN_BY_CONTACT,
        )  # fmt: skip
        body.add_geom(
            type=_GEOM.mjGEOM_CYLINDER, size=[0.023, 0.001, 0], pos=[x, y, 0.01], material="shell",
            **UNSEEN_BY_CONTACT,
        )  # fmt: skip
    body.add_site(name=BODY, size=[0.002, 0.002, 0.002])
    ranges = {"thrust": (0.0, MAX_THRUST)} | {
        f"{axis} moment": (-most, most) for axis, most in zip("xyz", MAX_MOMENT.tolist(), strict=True)
    }
    for (name, (least, most)), column in zip(ranges.items(), (2, 3, 4, 5), strict=True):
        actuator = spec.add_actuator(
            name=name, target=BODY, trntype=mujoco.mjtTrn.mjTRN_SITE, gear=np.eye(6)[column],
            ctrllimited=True, ctrlrange=[least, most],
        )  # fmt: skip
        actuator.set_to_motor()
