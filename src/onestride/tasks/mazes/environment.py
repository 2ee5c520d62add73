"""Gymnasium-Robotics' mazes with flat observations, under Gymnasium ids that begin with ``onestride/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.errors import install
from onestride.tasks.mazes.maps import ANT, MAZES

PREFIX = "onestride/"
OPTIONS = ("goal", "goal_cell", "reset_cell")


class FlatMaze(gymnasium.Env[np.ndarray, np.ndarray]):
    """A maze whose observation is [state, goal x, goal y]; a step within the goal's radius earns 1.

    Args:
        name: of the task, one of ``MAZES``.
        ends_at_goal: whether an episode terminates within the goal's radius.
        render_mode: the environment's.

    Raises:
        ModuleNotFoundError: Gymnasium-Robotics is not installed. The message says how to install it.
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"]}  # noqa: RUF012

    def __init__(self, name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> None:
        self.name, self.map = name, MAZES[name]
        body, environment = self.map.body, self.map.environment
        try:
            import gymnasium_robotics
        except ModuleNotFoundError as error:
            if error.name != "gymnasium_robotics":
                raise
            raise ModuleNotFoundError(
                f"{environment} needs gymnasium-robotics, which is not installed: {install('tasks')}"
            ) from error
        gymnasium.register_envs(gymnasium_robotics)
        settings = {"include_cfrc_ext_in_observation": False} if body is ANT else {}
        self.maze: Any = gymnasium.make(
            gymnasium.spec(environment), continuing_task=not ends_at_goal, reset_target=False, render_mode=render_mode,
            max_episode_steps=-1, disable_env_checker=True, **settings,
        ).unwrapped  # fmt: skip
        self.dt = body.control_dt
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}
        self.action_space = self.maze.action_space
        self.observation_space = Box(-np.inf, np.inf, (body.observation_dim,), np.float64)
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observation of a start and a goal that depend on the seed.

        Args:
            seed: of start and goal.
            options: "goal", where exactly it is (2,) [m], or "goal_cell", its cell (row, column); "reset_cell", the
                start's cell. Within their cells goal and start are drawn.

        Raises:
            ValueError: there is no such option, or a place is no free cell of the maze.
        """
        given = self._checked(options or {})
        goal = given.pop("goal", None)
        if goal is not None:
            given["goal_cell"] = self.map.cell(goal)
        observed, info = self.maze.reset(seed=seed, options=given or None)
        if goal is not None:
            self.maze.goal = goal
            self.maze.update_target_site_pos()
            observed = {**observed, "desired_goal": goal.copy()}
        return self._flat(observed), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return what the maze's step returns, its observation flat."""
        observed, reward, terminated, truncated, info = self.maze.step(action)
        return self._flat(observed), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Return the maze's picture."""
        return self.maze.render()

    def close(self) -> None:
        """Close the maze."""
        self.maze.close()

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options as arrays and cells."""
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise ValueError(f"{self.name} has no option {', '.join(unknown)} of a reset; it has {', '.join(OPTIONS)}")
        made: dict[str, Any] = {}
        for name, value in options.items():
            numbers = np.asarray(value)
            whole = name == "goal" or numbers.dtype.kind in "iu"
            if numbers.shape != (2,) or numbers.dtype.kind not in "fiu" or not whole or not np.isfinite(numbers).all():
                wanted = "x and y [m]" if name == "goal" else "two whole numbers, row and column"
                raise ValueError(f"the option {name} of {self.name} is {value!r}, expected {wanted}")
            if name == "goal":
                made[name] = numbers.astype(np.float64)
                self.map.check_goal(made[name])
            else:
                made[name] = (int(numbers[0]), int(numbers[1]))
                self.map.check_cell(name, made[name])
        if {"goal", "goal_cell"} <= made.keys():
            raise ValueError(f"a reset of {self.name} was given goal and goal_cell; give one of them")
        return made

    def _flat(self, observed: dict[str, np.ndarray]) -> np.ndarray:
        position = [observed["achieved_goal"]] if self.map.body is ANT else []  # a point's state begins with it
        return np.concatenate((*position, observed["observation"], observed["desired_goal"]))


def registered(name: str) -> str:
    """Register the environment of the task ``name``, one of ``MAZES``, and return its id."""
    maze = MAZES[name]
    which = PREFIX + maze.environment
    if which not in gymnasium.registry:
        gymnasium.register(
            which,
            f"{FlatMaze.__module__}:{FlatMaze.__name__}",
            max_episode_steps=maze.episode_steps,
            kwargs={"name": name},
        )
    return which
