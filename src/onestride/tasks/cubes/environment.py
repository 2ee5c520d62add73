"""OGBench's cubes as Gymnasium environments ``onestride/CubeSingle-v0`` and ``-Double-v0``, once imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onestride.tasks.cubes.control_spec import CUBES
from onestride.tasks.manipulation import register, world

if TYPE_CHECKING:
    from onestride.tasks.cubes.world import CubeWorld


def make_cubes(name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> CubeWorld:
    """Return the environment of the task ``name``, one of ``CUBES``, without a limit of time. See ``CubeWorld``.

    Raises:
        ModuleNotFoundError: OGBench is not installed. The message says how to install it.
    """
    return world("onestride.tasks.cubes.world", "CubeWorld", name)(name, ends_at_goal, render_mode)


for _name, _cubes in CUBES.items():
    register(_cubes.environment, f"{__name__}:{make_cubes.__name__}", _name, _cubes.episode_steps)
