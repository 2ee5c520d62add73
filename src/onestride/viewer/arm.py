"""The arm on its table. Its joints are found from where the tool is, so that any robot that gives that can be shown."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import numpy as np

from onestride.tasks.kinova.arm import InverseKinematics, build_model
from onestride.tasks.kinova.scene import MAX_OBSTACLES
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.physics import mujoco
from onestride.tasks.task import Task
from onestride.viewer.parts import FLOOR, GOAL, JOINT, ROBOT, Part, Shape, obstacle_parts
from onestride.viewer.views import View

MOVED = 5e-4  # a tool that moved by less has the joints that it had [m]
#: Shapes of MuJoCo's geoms that the arm is made of.
SHAPES: dict[int, Shape] = {
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
}


class ArmParts:
    """The parts of the arm with its tool at a position."""

    def __init__(self) -> None:
        self.model = build_model(np.zeros((MAX_OBSTACLES, OBSTACLE_DIM)))
        self.data = mujoco.MjData(self.model)
        self._ik = InverseKinematics(self.model)
        self._joints: np.ndarray | None = None
        self._tool = np.full(3, np.inf)

    def __call__(self, tool: np.ndarray) -> list[Part]:
        """Return the parts (3,) [m]."""
        if not np.linalg.norm(tool - self._tool) < MOVED:
            found = self._ik.start(tool) if self._joints is None else self._ik.solve(self._joints, tool)
            self._joints, self._tool = found[0], np.array(tool)
            self.data.qpos[:] = self._joints
            mujoco.mj_kinematics(self.model, self.data)
        return [made for geom in range(self.model.ngeom) if (made := self._part(geom)) is not None]

    def _part(self, geom: int) -> Part | None:
        model, kind = self.model, int(self.model.geom_type[geom])
        if kind not in SHAPES:
            return None
        wxyz: Any = np.empty(4)
        mujoco.mju_mat2Quat(wxyz, self.data.geom_xmat[geom])
        radius, half = model.geom_size[geom, :2]
        shell = model.geom_matid[geom] == model.material("shell").id
        return Part(
            f"arm{geom}", SHAPES[kind], (float(radius), 2 * float(half)), ROBOT if shell else JOINT,
            self.data.geom_xpos[geom].copy(), tuple(wxyz.tolist()),
        )  # fmt: skip


def view(task: Task) -> View:
    """Return how the arm is shown: the goal and the obstacles can be dragged."""
    del task
    arm = ArmParts()

    def parts(observation: np.ndarray) -> list[Part]:
        goal = Part("goal", "sphere", (0.018,), GOAL, observation[6:9], handle="goal")
        return [*arm(observation[:3]), goal, *obstacle_parts(observation[9:])]

    def place(robot: Any, name: str, position: np.ndarray) -> None:
        robot.place(name, position)

    table = Part("table", "box", (1.1, 0.95, 0.02), FLOOR, np.array([0.25, 0.0, -0.011]))
    handles = ("goal", *(f"obstacle{k}" for k in range(MAX_OBSTACLES)))
    return View(
        [table], parts, handles, place,
        eye=(1.8, 0.52, 1.05), gaze=(0.2, 0.52, 0.25), label=(0.0, 0.0, 0.75), spacing=(0.0, 1.05, 0.0),
    )  # fmt: skip
