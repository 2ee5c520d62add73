"""OGBench's scene as Gymnasium environments, one for each of ``SCENES``, once imported."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import gymnasium

from onestride.tasks.scenes.control_spec import SCENES

if TYPE_CHECKING:
    from onestride.tasks.scenes.world import SceneWorld


def make_scene(name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> SceneWorld:
    """Return the environment of the task ``name``, one of ``SCENES``, without a limit of time. See ``SceneWorld``.

    Raises:
        ModuleNotFoundError: OGBench is not installed. The message says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            from onestride.tasks.scenes.world import SceneWorld
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ogbench":
            raise
        raise ModuleNotFoundError(
            f"{name} needs ogbench, which is not installed: pip install 'onestride[tasks]'"
        ) from error
    return SceneWorld(name, ends_at_goal, render_mode)


for _name, _scene in SCENES.items():
    if _scene.environment not in gymnasium.registry:
        gymnasium.register(
            _scene.environment,
            f"{__name__}:{make_scene.__name__}",
            max_episode_steps=_scene.episode_steps,
            kwargs={"name": _name},
        )
