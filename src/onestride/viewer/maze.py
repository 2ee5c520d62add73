"""Mazes: the walls, the body as a ball, and the goal, which can be dragged to any free place."""

from __future__ import annotations

from typing import Any

import numpy as np

from onestride.tasks.mazes.maps import ANT, GOAL_RADIUS, MAZES
from onestride.tasks.task import Task
from onestride.viewer.parts import FLOOR, GOAL, JOINT, WALL, Part
from onestride.viewer.views import View

#: Height of the walls, and radius of the ball, in cells.
WALL_HEIGHT, BALL = 0.25, 0.12
ABOVE = 0.02  # plans are drawn above the floor [cells]


def view(task: Task) -> View:
    """Return how a maze is shown. Lengths are the environment's: cells are 1 or 4 m wide."""
    maze = MAZES[task.name]
    cell, (rows, columns) = maze.body.cell_size, maze.walls.shape
    floor = Part("floor", "box", (columns * cell, rows * cell, 0.02), FLOOR, np.array([0.0, 0.0, -0.011]))
    walls = [
        Part(
            f"wall{row}-{column}", "box", (cell, cell, WALL_HEIGHT * cell), WALL,
            np.array([*maze.centre((int(row), int(column))), WALL_HEIGHT * cell / 2]),
        )
        for row, column in np.argwhere(maze.walls)
    ]  # fmt: skip

    def parts(observation: np.ndarray) -> list[Part]:
        radius = BALL * cell
        height = float(observation[2]) if maze.body is ANT else radius
        goal = np.array([*observation[-2:], 0.01 * cell])
        return [
            Part("body", "sphere", (radius,), JOINT, np.array([*observation[:2], height])),
            Part("goal", "cylinder", (GOAL_RADIUS, 0.02 * cell), GOAL, goal, opacity=0.55, handle="goal"),
        ]

    def place(robot: Any, name: str, position: np.ndarray) -> None:
        del name
        goal = np.array(position[:2], np.float64)
        maze.check_goal(goal)
        world = robot.environment.unwrapped.maze
        world.goal = goal
        world.update_target_site_pos()
        robot.observation[-2:] = goal  # the last step's, which is read until the next one

    def paths(positions: np.ndarray) -> np.ndarray:
        return positions + np.array([0.0, 0.0, ABOVE * cell])

    wide, deep = columns * cell, rows * cell
    return View(
        [floor, *walls], parts, ("goal",), place, paths, flat=True,
        eye=(0.55 * wide, -1.3 * deep, 1.75 * deep), gaze=(0.55 * wide, -0.1 * deep, 0.0),
        label=(-0.5 * wide, 0.55 * deep, 0.5 * cell),
        spacing=(1.1 * wide, 0.0, 0.0),
    )  # fmt: skip
