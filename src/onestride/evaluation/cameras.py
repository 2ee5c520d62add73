"""Pictures of the arm in recorded poses: rendered by MuJoCo, or drawn where no OpenGL works.

MuJoCo renders in a process of its own: OpenGL's backend is fixed when ``mujoco`` is first imported, and one
that is not installed fails there.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import proj3d
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from onestride.tasks.kinova.arm import CAMERA, LINKS, TOOL, build_model
from onestride.tasks.kinova.scene import ABSENT, SPHERE, Scene
from onestride.tasks.kinova.simulation import render_frames
from onestride.tasks.physics import mujoco

CHUNK = 30  # frames per renderer

Frames = Iterator[np.ndarray]  # each (height, width, 3) uint8
Project = Callable[[np.ndarray], np.ndarray]  # points (n, 3) [m] -> where they are seen (n, 2) [px]


def shoot(scene: Scene, joints: np.ndarray, width: int, height: int) -> tuple[Frames, Project, str | None]:
    """A picture for each row of ``joints`` (n, 7), how points are seen in it, and why it was drawn, if it was."""
    reasons = []
    for backend in _backends():
        shots = _rendered(scene, joints, width, height, backend)
        try:
            first = next(shots)
        except RuntimeError as error:  # no OpenGL of this kind
            reasons.append(str(error))
            continue
        return chain([first], shots), _camera(scene, width, height), None
    return *_drawn(scene, joints, width, height), "; ".join(reasons)


def _backends() -> list[str | None]:
    """Values of MUJOCO_GL to try; None leaves it to MuJoCo, which is right where there is a display."""
    if "MUJOCO_GL" in os.environ:
        return [os.environ["MUJOCO_GL"]]
    headless = sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return ["egl", "osmesa"] if headless else [None]


def _rendered(scene: Scene, joints: np.ndarray, width: int, height: int, backend: str | None) -> Frames:
    """Frames from a renderer in another process.

    Raises:
        RuntimeError: it stopped before the last one; the message is its last line.
    """
    request = {"start": scene.start, "goal": scene.goal, "obstacles": scene.obstacles, "joints": joints}
    request["size"] = np.array([width, height])
    environment = os.environ | ({"MUJOCO_GL": backend} if backend else {}) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
            env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process, process.stdout as frames:
            try:
                with suppress(BrokenPipeError), process.stdin as out:  # should it be gone, its complaint is read below
                    out.write(to_bytes(request))
                for _ in joints:
                    data = frames.read(width * height * 3)
                    if len(data) < width * height * 3:
                        process.wait()
                        complaints.seek(0)
                        lines = complaints.read().decode(errors="replace").strip().splitlines() or ["no message"]
                        raise RuntimeError(f"MUJOCO_GL={backend or 'unset'}: {lines[-1]}")
                    yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            finally:
                process.kill()


def serve() -> None:
    """The other process: a request on the standard input, raw frames on the standard output."""
    request = from_bytes(sys.stdin.buffer.read())
    scene = Scene(request["start"], request["goal"], request["obstacles"])
    width, height = request["size"].tolist()
    joints = request["joints"]
    for first in range(0, len(joints), CHUNK):
        part = joints[first : first + CHUNK]
        for frame in render_frames(scene, part, np.arange(len(part), dtype=np.float64), width, height, fps=1.0):
            sys.stdout.buffer.write(frame.tobytes())
        sys.stdout.buffer.flush()


def _camera(scene: Scene, width: int, height: int) -> Project:
    """How the model's own camera sees points."""
    model = build_model(scene.obstacles)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = model.camera(CAMERA).id
    eye, axes = data.cam_xpos[camera].copy(), data.cam_xmat[camera].reshape(3, 3).copy()
    focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)  # [px]

    def project(points: np.ndarray) -> np.ndarray:
        x, y, z = ((points - eye) @ axes).T  # right, up, backward
        return np.stack((width / 2 - focal * x / z, height / 2 + focal * y / z), -1)

    return project


def _drawn(scene: Scene, joints: np.ndarray, width: int, height: int) -> tuple[Frames, Project]:
    """A stick arm among the obstacles, for machines without OpenGL."""
    model = build_model(scene.obstacles)
    data = mujoco.MjData(model)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((-0.12, -0.12, 1.24, 1.24), projection="3d", computed_zorder=False)
    axes.set(xlim=(-0.05, 0.65), ylim=(-0.4, 0.4), zlim=(0, 0.65))
    axes.set_aspect("equal")
    axes.view_init(elev=20, azim=-37)
    axes.set_axis_off()
    floor = [[(-0.15, -0.45, 0), (0.75, -0.45, 0), (0.75, 0.45, 0), (-0.15, 0.45, 0)]]
    axes.add_collection3d(Poly3DCollection(floor, facecolor="#EEF0F3", edgecolor="#D5D9DF"))
    for row in scene.obstacles:
        if row[0] != ABSENT:
            surface = _sphere(row) if row[0] == SPHERE else _box(row)
            axes.plot_surface(*surface, color="#E66B38", alpha=0.75, linewidth=0, rcount=12, ccount=16)
    axes.plot(*scene.goal, "*", color="#008F5A", markersize=13)
    (arm,) = axes.plot([], [], [], "-o", color="#3A3F47", linewidth=6, markersize=7, solid_capstyle="round")
    canvas.draw()  # settles the projection

    def frames() -> Frames:
        for q in joints:
            data.qpos[:] = q
            mujoco.mj_kinematics(model, data)
            points = np.stack([np.zeros(3), *(data.body(link.name).xpos for link in LINKS), data.site(TOOL).xpos])
            arm.set_data_3d(*points.T)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def project(points: np.ndarray) -> np.ndarray:
        x, y, _ = proj3d.proj_transform(points[:, 0], points[:, 1], points[:, 2], axes.get_proj())
        seen = axes.transData.transform(np.stack((x, y), -1))
        return np.stack((seen[:, 0], height - seen[:, 1]), -1)

    return frames(), project


def _sphere(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface of a sphere as three grids [m]."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(0, np.pi, 13))
    x, y, z = row[4] * np.cos(u) * np.sin(v), row[4] * np.sin(u) * np.sin(v), row[4] * np.cos(v)
    return row[1] + x, row[2] + y, row[3] + z


def _box(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface of a box as three grids [m]: bottom's centre, bottom ring, top ring, top's centre."""
    around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]])
    rings = [0 * around, around, around, 0 * around]
    x, y = np.array(rings)[..., 0] * row[4], np.array(rings)[..., 1] * row[5]  # (4, 5)
    z = np.repeat([-1, -1, 1, 1], 5).reshape(4, 5) * row[6]
    cos, sin = np.cos(row[7]), np.sin(row[7])
    return row[1] + cos * x - sin * y, row[2] + sin * x + cos * y, row[3] + z


if __name__ == "__main__":
    serve()
