"""OGBench's scene as Gymnasium environments, one for each of ``SCENES``, once imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onestride.tasks.manipulation import register, world
from onestride.tasks.scenes.control_spec import SCENES

if TYPE_CHECKING:
    from onestride.tasks.scenes.world import SceneWorld


def make_scene(name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> SceneWorld:
    """Return the environment of the task ``name``, one of ``SCENES``, without a limit of time. See ``SceneWorld``.

    Raises:
        ModuleNotFoundError: OGBench is not installed. The message says how to install it.
    """
    return world("onestride.tasks.scenes.world", "SceneWorld", name)(name, ends_at_goal, render_mode)


for _name, _scene in SCENES.items():
    register(_scene.environment, f"{__name__}:{make_scene.__name__}", _name, _scene.episode_steps)
