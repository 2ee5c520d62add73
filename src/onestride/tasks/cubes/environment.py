"""OGBench's cubes as Gymnasium environments ``onestride/CubeSingle-v0`` and ``-Double-v0``, once imported."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import gymnasium

from onestride.tasks.cubes.control_spec import CUBES

if TYPE_CHECKING:
    from onestride.tasks.cubes.world import CubeWorld


def make_cubes(name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> CubeWorld:
    """Return the environment of the task ``name``, one of ``CUBES``, without a limit of time. See ``CubeWorld``.

    Raises:
        ModuleNotFoundError: OGBench is not installed. The message says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            from onestride.tasks.cubes.world import CubeWorld
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ogbench":
            raise
        raise ModuleNotFoundError(
            f"{name} needs ogbench, which is not installed: pip install 'onestride[tasks]'"
        ) from error
    return CubeWorld(name, ends_at_goal, render_mode)


for _name, _cubes in CUBES.items():
    if _cubes.environment not in gymnasium.registry:
        gymnasium.register(
            _cubes.environment,
            f"{__name__}:{make_cubes.__name__}",
            max_episode_steps=_cubes.episode_steps,
            kwargs={"name": _name},
        )
