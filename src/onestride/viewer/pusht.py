"""PushT, 1 px as 2 mm and y upwards in the picture: the agent, the T, which can be dragged, and where it has to go."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from onestride.tasks.pusht.control_spec import SIZE
from onestride.tasks.pusht.simulation import Simulation
from onestride.tasks.task import Task
from onestride.viewer.parts import FLOOR, GOAL, JOINT, OBSTACLE, Part, about_z
from onestride.viewer.views import View

SCALE = 0.002  # [m/px]
AGENT = 15.0  # radius of the agent [px]
HEIGHT = 0.03  # of the T [m]
ABOVE = 0.045  # plans are drawn above the T [m]
GOAL_POSE = (256.0, 256.0, math.pi / 4)  # x, y [px] and angle [rad] of the T at its goal, gym-pusht's


@cache
def corners() -> np.ndarray:
    """Return the 8 corners of the T in its own frame (8, 2) [px]: of its bar, then of its stem."""
    return Simulation().corners


def in_scene(pixels: np.ndarray) -> np.ndarray:
    """Return positions (..., 2) [px] in the scene (..., 2) [m]: the field's middle is the origin, y points up."""
    return (np.asarray(pixels, np.float64) - SIZE / 2) * np.array([SCALE, -SCALE])


def in_pixels(position: np.ndarray) -> np.ndarray:
    """Return a position in the scene (2,) [m] in pixels: the inverse of ``in_scene``."""
    return np.asarray(position[:2], np.float64) / np.array([SCALE, -SCALE]) + SIZE / 2


def bars(name: str, eight: np.ndarray, colour: tuple[int, int, int], **settings: Any) -> list[Part]:
    """Return the bar and the stem of a T with these 8 corners (8, 2) [px]."""
    made = []
    for number, four in enumerate(in_scene(eight).reshape(2, 4, 2)):
        along, across = four[1] - four[0], four[2] - four[1]
        size = float(np.linalg.norm(along)), float(np.linalg.norm(across)), settings.get("height", HEIGHT)
        centre = np.array([*four.mean(0), settings.get("height", HEIGHT) / 2])
        made.append(
            Part(
                f"{name}{number}", "box", size, colour, centre, about_z(math.atan2(along[1], along[0])),
                settings.get("opacity", 1.0), settings.get("handle", ""),
            )
        )  # fmt: skip
    return made


def view(task: Task) -> View | None:
    """Return how PushT is shown; of the task that is seen by a camera the T's place is not in the numbers: None."""
    if task.control.cameras:
        return None
    x, y, angle = GOAL_POSE
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    wide = SIZE * SCALE
    floor = Part("floor", "box", (wide, wide, 0.02), FLOOR, np.array([0.0, 0.0, -0.012]))
    goal = bars("goal", corners() @ turn + (x, y), GOAL, height=0.004, opacity=0.7)

    def parts(observation: np.ndarray) -> list[Part]:
        agent = np.array([*in_scene(observation[:2]), HEIGHT / 2])
        return [
            *bars("block", observation[2:18].reshape(8, 2), OBSTACLE, handle="block"),
            Part("agent", "cylinder", (AGENT * SCALE, HEIGHT), JOINT, agent),
        ]

    def place(robot: Any, name: str, position: np.ndarray) -> None:
        """Move the middle of the bar; the T keeps its angle."""
        del name
        world, simulation = robot.environment.unwrapped, corners()
        middle = simulation[:4].mean(0)
        cos, sin = math.cos(world.block.angle), math.sin(world.block.angle)
        offset = np.array([cos * middle[0] - sin * middle[1], sin * middle[0] + cos * middle[1]])
        target = in_pixels(position).clip(60.0, SIZE - 60.0) - offset
        moved = target - np.array(tuple(world.block.position))
        world.block.position = tuple(target.tolist())
        world.space.reindex_shapes_for_body(world.block)
        robot.observation[2:18] += np.tile(moved, 8)  # the last step's, which is read until the next one

    def paths(positions: np.ndarray) -> np.ndarray:
        return np.concatenate((in_scene(positions[..., :2]), np.full((*positions.shape[:-1], 1), ABOVE)), -1)

    return View(
        [floor, *goal], parts, ("block",), place, paths, flat=True,
        eye=(0.6, -1.5, 1.7), gaze=(0.6, -0.1, 0.0), label=(-0.5 * wide, 0.54 * wide, 0.05),
        spacing=(1.15 * wide, 0.0, 0.0),
    )  # fmt: skip
