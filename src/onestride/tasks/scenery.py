"""What MuJoCo models of robots among obstacles have in common: obstacles, floor, light, colours and a camera."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onestride.tasks.obstacles import ABSENT, BOX, PILLAR, SPHERE
from onestride.tasks.physics import mujoco, no_renderer

CAMERA = "view"
_GEOM = mujoco.mjtGeom
#: A robot's geoms touch the world's, and no others.
ROBOT_BIT, WORLD_BIT = {"contype": 1, "conaffinity": 0}, {"contype": 0, "conaffinity": 1}
#: Geoms that are seen and nothing else.
UNSEEN_BY_CONTACT = {"contype": 0, "conaffinity": 0, "mass": 0}


def add_obstacle(spec: mujoco.MjSpec, name: str, row: np.ndarray) -> None:
    """Add the obstacle of one row (8,) as a geom, unless it is absent; see ``obstacles.py``.

    Raises:
        ValueError: its kind is unknown.
    """
    kind, center, half, yaw = row[0], row[1:4], row[4:7], row[7]
    if kind == ABSENT:
        return
    if kind == SPHERE:
        shape = {"type": _GEOM.mjGEOM_SPHERE, "size": [half[0], 0, 0]}
    elif kind == BOX:
        shape = {"type": _GEOM.mjGEOM_BOX, "size": half, "quat": [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]}
    elif kind == PILLAR:
        shape = {"type": _GEOM.mjGEOM_CYLINDER, "size": [half[0], half[2], 0]}
    else:
        raise ValueError(
            f"{name} has kind {kind}, expected {ABSENT} (absent), {SPHERE} (sphere), {BOX} (box) or {PILLAR} (pillar)"
        )
    spec.worldbody.add_geom(name=name, pos=center, material="obstacle", **shape, **WORLD_BIT)


def add_goal(spec: mujoco.MjSpec, goal: np.ndarray, radius: float) -> None:
    """Add a mark at the goal (3,) [m]."""
    spec.worldbody.add_geom(
        name="goal", type=_GEOM.mjGEOM_SPHERE, size=[radius, 0, 0], pos=goal, material="goal", **UNSEEN_BY_CONTACT
    )


def dress(spec: mujoco.MjSpec, floor: str, eye: Sequence[float], gaze: Sequence[float], fovy: float) -> None:
    """Add a floor at z = 0, light, colours and the camera ``CAMERA``.

    Args:
        spec: of the model.
        floor: its name.
        eye: the camera's position (3,) [m].
        gaze: what the camera looks at (3,) [m].
        fovy: the camera's vertical field of view [deg].
    """
    for name, rgba, shine in (
        ("shell", (0.80, 0.81, 0.84, 1), 0.5), ("joint", (0.16, 0.18, 0.21, 1), 0.5),
        ("obstacle", (0.90, 0.42, 0.22, 1), 0.3), ("goal", (0.15, 0.75, 0.40, 0.9), 0.2),
    ):  # fmt: skip
        spec.add_material(name=name, rgba=rgba, specular=shine, shininess=shine)
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.95, 0.98], rgb2=[0.70, 0.77, 0.85], width=256, height=256,
    )  # fmt: skip
    spec.add_texture(
        name=floor, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.85], rgb2=[0.775, 0.795, 0.83], width=256, height=256,
    )  # fmt: skip
    ground = spec.add_material(name=floor, texrepeat=[10, 10], texuniform=True)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = floor
    world = spec.worldbody
    world.add_geom(name=floor, type=_GEOM.mjGEOM_PLANE, size=[3, 3, 0.1], material=floor, **WORLD_BIT)
    world.add_light(
        pos=[0.8, -0.6, 2.0], dir=[-0.25, 0.3, -1], diffuse=[0.5, 0.5, 0.5], specular=[0.3, 0.3, 0.3],
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=True,
    )  # fmt: skip
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.quality.shadowsize = 2048
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1080
    at = np.array(eye)
    back = (at - gaze) / np.linalg.norm(at - gaze)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.stack((right, np.cross(back, right), back), -1).ravel())
    world.add_camera(name=CAMERA, pos=at, quat=quat, fovy=fovy)


def render_frames(
    model: mujoco.MjModel, path: np.ndarray, times: np.ndarray, width: int, height: int, fps: float
) -> list[np.ndarray]:
    """Return pictures of a recorded motion, each (height, width, 3) uint8.

    Args:
        model: of the robot in its scene.
        path: generalised coordinates (N, nq).
        times: of the path (N,) [s].
        width: of a picture [pixels].
        height: of a picture [pixels].
        fps: pictures per second [Hz].

    Raises:
        RuntimeError: no renderer works here.
    """
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
            data.qpos[:] = [np.interp(t, times, coordinate) for coordinate in path.T]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=CAMERA)
            frames.append(renderer.render())
    return frames
