"""What OGBench's worlds have in common: how they are imported and registered, and what can be observed and done."""

from __future__ import annotations

import warnings
from functools import cached_property
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.errors import install
from onestride.tasks.cubes.control_spec import ACTION_DIM, CONTROL_DT


def world(module: str, kind: str, name: str) -> Any:
    """Return the class ``kind`` of worlds in a module that needs OGBench.

    Raises:
        ModuleNotFoundError: OGBench is not installed. The message says how to install it for the task ``name``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            return getattr(import_module(module), kind)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ogbench":
            raise
        raise ModuleNotFoundError(f"{name} needs ogbench, which is not installed: {install('tasks')}") from error


def register(environment: str, maker: str, name: str, episode_steps: int) -> None:
    """Register an environment once: it is made by ``maker``, "MODULE:FUNCTION", of the task ``name``."""
    if environment not in gymnasium.registry:
        gymnasium.register(environment, maker, max_episode_steps=episode_steps, kwargs={"name": name})


class Spaces:
    """The spaces of a world, and its control period. size: numbers of an observation."""

    size: int

    @cached_property
    def observation_space(self) -> Box:
        """All that can be observed."""
        return Box(-np.inf, np.inf, (self.size,), np.float64)

    @cached_property
    def action_space(self) -> Box:
        """All that can be done; OGBench draws from it when it resets, so that it is kept and seeded."""
        return Box(-1.0, 1.0, (ACTION_DIM,), np.float32)

    @property
    def dt(self) -> float:
        """Control period [s]."""
        return CONTROL_DT
