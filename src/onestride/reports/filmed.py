"""Robots in scenes whose trials are filmed: what their scenes and models are."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onestride.files import CheckpointError
from onestride.tasks.kinova import arm
from onestride.tasks.kinova.control_spec import GOAL_RADIUS as ARM_RADIUS
from onestride.tasks.kinova.scene import Scene as ArmScene
from onestride.tasks.obstacles import Scene
from onestride.tasks.physics import mujoco
from onestride.tasks.quadrotor import model
from onestride.tasks.quadrotor.control_spec import GOAL_RADIUS as QUADROTOR_RADIUS
from onestride.tasks.quadrotor.scene import Scene as QuadrotorScene


@dataclass(frozen=True)
class Filmed:
    """How a task's trials are shown.

    scene: of start, goal and obstacles. model: obstacles (K, 8), goal (3,) or None -> the robot among them.
    arrived: within this distance of the goal [m].
    """

    scene: type[Scene]
    model: Callable[[np.ndarray, np.ndarray | None], mujoco.MjModel]
    arrived: float


FILMED = {
    "kinova": Filmed(ArmScene, arm.build_model, ARM_RADIUS),
    "quadrotor": Filmed(QuadrotorScene, model.build_model, QUADROTOR_RADIUS),
}


def filmed(task: str) -> Filmed:
    """Return how trials of a task are shown.

    Raises:
        CheckpointError: they are not.
    """
    if task not in FILMED:
        raise CheckpointError(f"trials of '{task}' are not filmed; those of {', '.join(FILMED)} are")
    return FILMED[task]


def task_of_scene(scene: Scene) -> str:
    """Return the name of the task that a scene is of."""
    return next(name for name, each in FILMED.items() if type(scene) is each.scene)
