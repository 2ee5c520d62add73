"""Gymnasium-Robotics' point mazes with flat observations, under Gymnasium ids that begin with ``onestride/``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.tasks.maze_control_spec import MAZES, OBSERVATION_DIM

PREFIX = "onestride/"


class FlatMaze(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point maze whose observation is [x, y, vx, vy, goal x, goal y]; a step within the goal's radius earns 1.

    Args:
        environment: Gymnasium-Robotics' id.
        ends_at_goal: whether an episode terminates within the goal's radius.
        render_mode: the environment's.

    Raises:
        ModuleNotFoundError: Gymnasium-Robotics is not installed. The message says how to install it.
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 100}  # noqa: RUF012

    def __init__(self, environment: str, ends_at_goal: bool = True, render_mode: str | None = None) -> None:
        try:
            import gymnasium_robotics
        except ModuleNotFoundError as error:
            if error.name != "gymnasium_robotics":
                raise
            raise ModuleNotFoundError(
                f"{environment} needs gymnasium-robotics, which is not installed; pip install 'onestride[tasks]'"
            ) from error
        gymnasium.register_envs(gymnasium_robotics)
        spec = gymnasium.spec(environment)
        self.maze: Any = gymnasium.make(
            spec, continuing_task=not ends_at_goal, reset_target=False, render_mode=render_mode, max_episode_steps=-1,
            disable_env_checker=True,
        ).unwrapped  # fmt: skip
        self.action_space = self.maze.action_space
        self.observation_space = Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float64)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observation of a start and a goal that depend on the seed."""
        observed, info = self.maze.reset(seed=seed, options=options)
        return _flat(observed), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return what the maze's step returns, its observation flat."""
        observed, reward, terminated, truncated, info = self.maze.step(action)
        return _flat(observed), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Return the maze's picture."""
        return self.maze.render()

    def close(self) -> None:
        """Close the maze."""
        self.maze.close()

    @property
    def dt(self) -> float:
        """Control period [s]."""
        return float(self.maze.point_env.dt)

    @property
    def walls(self) -> np.ndarray:
        """Which cells are walls (rows, columns), bool."""
        return np.array([[cell == 1 for cell in row] for row in self.maze.maze.maze_map])

    def cell(self, position: np.ndarray) -> tuple[int, int]:
        """Return (row, column) of the cell that a position [m] lies in."""
        row, column = self.maze.maze.cell_xy_to_rowcol(position)
        return int(row), int(column)

    def centre(self, cell: tuple[int, int]) -> np.ndarray:
        """Return the centre of the cell (row, column) [m]."""
        return np.asarray(self.maze.maze.cell_rowcol_to_xy(np.array(cell)))


def _flat(observed: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate((observed["observation"], observed["desired_goal"]))


def registered(name: str) -> str:
    """Register the environment of the task ``name``, one of ``MAZES``, and return its id."""
    maze = MAZES[name]
    which = PREFIX + maze.environment
    if which not in gymnasium.registry:
        gymnasium.register(
            which,
            f"{FlatMaze.__module__}:{FlatMaze.__name__}",
            max_episode_steps=maze.episode_steps,
            kwargs={"environment": maze.environment},
        )
    return which
