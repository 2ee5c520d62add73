"""Frames of recorded motions, rendered by MuJoCo, or by an environment that draws itself.

MuJoCo renders in a process of its own: OpenGL's backend is fixed when ``mujoco`` is first imported, and one that is not
installed fails there.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from PIL import Image, ImageOps
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from onestride.reports.filmed import filmed, task_of_scene
from onestride.tasks.lockstep import make_environment
from onestride.tasks.obstacles import Scene
from onestride.tasks.physics import mujoco
from onestride.tasks.scenery import CAMERA, render_frames

Size = tuple[int, int]  # width, height [px]
#: The camera of Gymnasium's bodies that travel.
FOLLOWING = "track"


class RenderError(RuntimeError):
    """No OpenGL works here, or an environment draws no pictures; the message has every backend's complaint."""


def render_arm(scene: Scene, joints: np.ndarray, size: Size) -> np.ndarray:
    """Return frames (n, h, w, 3) uint8 of a robot's generalised coordinates (n, nq), of an arm its joints [rad].

    Raises:
        RenderError: no OpenGL works here.
    """
    request = {"joints": joints, "start": scene.start, "goal": scene.goal, "obstacles": scene.obstacles}
    return _rendered(request, {"task": task_of_scene(scene)}, len(joints), size)[0]


def seen_by_camera(scene: Scene, size: Size, points: np.ndarray) -> np.ndarray:
    """Return where points (n, 3) [m] are seen in ``render_arm``'s frames (n, 2) [px]."""
    width, height = size
    model = filmed(task_of_scene(scene)).model(scene.obstacles, None)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = model.camera(CAMERA).id
    focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)  # [px]
    x, y, z = ((points - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)).T  # right, up, backward
    return np.stack((width / 2 - focal * x / z, height / 2 + focal * y / z), -1)


def render_body(
    environment: str, seed: int, actions: np.ndarray, steps: np.ndarray, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (n, h, w, 3) uint8 of a body after so many control periods each, and how far it came (n,) [m].

    How far is NaN in an environment whose body does not travel.

    Args:
        environment: Gymnasium's id. seed: of its start. actions: (T, A), what the body did.
        steps: (n,), in order.

    Raises:
        RenderError: no OpenGL works here, or the environment draws no pictures.
    """
    about = {"environment": _specification(environment), "seed": seed}
    return _rendered({"actions": actions, "steps": steps.astype(np.int64)}, about, len(steps), size)


def _specification(environment: str) -> str:
    """Return how the other process makes the environment: as it is registered here, which it may not be there."""
    spec = gymnasium.registry.get(environment)
    return environment if spec is None or callable(spec.entry_point) else spec.to_json()


def _backends() -> list[str | None]:
    """Values of MUJOCO_GL to try; None leaves it to MuJoCo, which is right where there is a display."""
    if "MUJOCO_GL" in os.environ:
        return [os.environ["MUJOCO_GL"]]
    headless = sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return ["egl", "osmesa"] if headless else [None]


def _rendered(
    request: dict[str, np.ndarray], about: dict[str, Any], count: int, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the other process writes: frames, then a distance [m] for each."""
    text = json.dumps(about | {"size": size}).encode()
    sent = to_bytes({**request, "about": np.frombuffer(text, np.uint8)})
    shape = (count, size[1], size[0], 3)
    reasons: dict[str, str] = {}  # backend -> its complaint
    for backend in _backends():
        variables = os.environ | ({"MUJOCO_GL": backend} if backend else {}) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        answer = subprocess.run(
            [sys.executable, "-m", __name__], input=sent, capture_output=True, env=variables, check=False
        )
        if answer.returncode == 0:
            pixels = int(np.prod(shape))
            frames = np.frombuffer(answer.stdout, np.uint8, pixels).reshape(shape)
            return frames, np.frombuffer(answer.stdout[pixels:], np.float64)
        complaints = answer.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        reasons[f"MUJOCO_GL={backend or 'unset'}"] = complaints[-1]
    said = set(reasons.values())
    if len(reasons) > 1 and len(said) == 1:  # which has nothing to do with OpenGL
        raise RenderError(said.pop())
    raise RenderError("; ".join(f"{backend}: {reason}" for backend, reason in reasons.items()))


# --- the other process -------------------------------------------------------------------------------------------


def worker_main() -> None:
    """Answer a request on the standard input: raw frames on the standard output, then a distance for each."""
    request = from_bytes(sys.stdin.buffer.read())
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what an environment prints is no frame
    about = json.loads(request["about"].tobytes())
    distances = []
    for frame, distance in (_body if "environment" in about else _arm)(request, about):
        output.write(frame.tobytes())
        distances.append(distance)
    output.write(np.array(distances, np.float64).tobytes())
    output.close()


def _arm(request: dict[str, np.ndarray], about: dict[str, Any]) -> Iterator[tuple[np.ndarray, float]]:
    model, path = filmed(about["task"]).model(request["obstacles"], request["goal"]), request["joints"]
    for frame in render_frames(model, path, np.arange(len(path), dtype=np.float64), *about["size"], fps=1.0):
        yield frame, 0.0


def _body(request: dict[str, np.ndarray], about: dict[str, Any]) -> Iterator[tuple[np.ndarray, float]]:
    env, travels = _filmable(about["environment"], about["size"])
    env.reset(seed=about["seed"])
    for step in range(request["steps"].max() + 1):
        if step:
            env.step(request["actions"][step - 1])
        if step in request["steps"]:
            frame = Image.fromarray(np.asarray(env.render(), np.uint8))  # of a size of its own, where it takes none
            distance = float(env.unwrapped.data.qpos[0]) if travels else np.nan
            yield np.asarray(ImageOps.pad(frame, about["size"], color="white")), distance
    env.close()


def _filmable(what: str, size: Size) -> tuple[Any, bool]:
    """Return an environment that renders pictures, and whether it is a body that travels, which a camera follows."""
    from gymnasium.envs.mujoco import MujocoEnv  # here: it loads OpenGL, which may not work

    spec = EnvSpec.from_json(what) if what.startswith("{") else what
    try:
        env: Any = make_environment(spec, render_mode="rgb_array")
    except TypeError as error:
        if "render_mode" not in str(error):
            raise
        sys.exit("the environment draws no pictures (it takes no render_mode='rgb_array')")
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        sys.exit("the environment renders no pictures (its render_modes have no 'rgb_array')")
    if not isinstance(env.unwrapped, MujocoEnv):
        return env, False
    cameras = [env.unwrapped.model.camera(i).name for i in range(env.unwrapped.model.ncam)]
    env.close()
    travels = FOLLOWING in cameras
    # The camera is named, or it would stay where the body started.
    followed = {"camera_name": FOLLOWING} if travels else {}
    env = make_environment(spec, render_mode="rgb_array", width=size[0], height=size[1], **followed)
    if travels:
        model = env.unwrapped.model
        floor = model.geom("floor")  # a quick body leaves the 40 m of it that are drawn; the plane itself has no end
        floor.size[:2] *= 10
        model.mat_texrepeat[floor.matid] *= 10
    return env, travels


if __name__ == "__main__":
    worker_main()
