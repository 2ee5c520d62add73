"""A stick arm among the obstacles, drawn by matplotlib: for machines without OpenGL."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import proj3d
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from onestride.tasks.kinova.arm import TOOL, build_model
from onestride.tasks.kinova.links import LINKS
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.obstacles import ABSENT, SPHERE
from onestride.tasks.physics import mujoco

Project = Callable[[np.ndarray], np.ndarray]  # points (n, 3) [m] -> where they are seen (n, 2) [px]


def draw(scene: Scene, joints: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Project]:
    """Return frames (n, h, w, 3) uint8 of joints (n, 7) [rad], and where points are seen in them."""
    model = build_model(scene.obstacles)
    data = mujoco.MjData(model)
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
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
            axes.plot_surface(*_surface(row), color="#E66B38", alpha=0.75, linewidth=0, rcount=12, ccount=16)
    axes.plot(*scene.goal, "*", color="#008F5A", markersize=13)
    (arm,) = axes.plot([], [], [], "-o", color="#3A3F47", linewidth=6, markersize=7, solid_capstyle="round")
    canvas.draw()  # settles the projection
    frames = []
    for q in joints:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        points = np.stack([np.zeros(3), *(data.body(link.name).xpos for link in LINKS), data.site(TOOL).xpos])
        arm.set_data_3d(*points.T)
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    def project(points: np.ndarray) -> np.ndarray:
        x, y, _ = proj3d.proj_transform(points[:, 0], points[:, 1], points[:, 2], axes.get_proj())
        return axes.transData.transform(np.stack((x, y), -1)) * (1, -1) + (0, size[1])

    return np.stack(frames), project


def _surface(row: np.ndarray) -> np.ndarray:
    """Return the surface of an obstacle as grids of x, y, z [m]."""
    if row[0] == SPHERE:
        u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(0, np.pi, 13))
        x, y, z = row[4] * np.array((np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)))
    else:  # a box: its bottom's centre and ring, its top's ring and centre
        ring = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]])
        x, y = np.stack([0 * ring, ring, ring, 0 * ring], -2).T * row[4:6, None, None]  # (4, 5)
        z = np.repeat([-row[6], -row[6], row[6], row[6]], 5).reshape(4, 5)
    cos, sin = np.cos(row[7]), np.sin(row[7])
    return row[1:4, None, None] + (cos * x - sin * y, sin * x + cos * y, z)
