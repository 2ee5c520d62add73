"""Tasks by name: built in, ``gym:ENVIRONMENT``, from an installed package, FILE.py:NAME or MODULE:NAME.

A task's modules are imported when the task is asked for, because they may need libraries that others do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from onestride.registry import Registry
from onestride.robot.control_spec import ControlSpec
from onestride.tasks.modified_bodies.variants import CHANGES, Change, is_modified

if TYPE_CHECKING:
    from onestride.tasks.task import Task


def kinova() -> Task:
    """Return the task of point-to-point moves of a Kinova Gen3 past obstacles."""
    from onestride.tasks.kinova.task import task

    return task()


def _kinova_control_spec() -> ControlSpec:
    from onestride.tasks.kinova.control_spec import control_spec

    return control_spec()


def _locomotion(body: str, version: Any) -> Task:
    from onestride.tasks.locomotion import locomotion

    return locomotion(body, version)


def _body_control_spec(body: str, version: Any) -> ControlSpec:
    from onestride.tasks.bodies import control_spec

    return control_spec(body, version)


def _modified(name: str) -> Task:
    from onestride.tasks.modified_bodies.task import modified

    return modified(name)


def _modified_control_spec(change: Change) -> ControlSpec:
    return change.control_spec("v5")


def _pusht() -> Task:
    from onestride.tasks.pusht.task import pusht

    return pusht()


def _pusht_image() -> Task:
    from onestride.tasks.pusht.task import pusht_image

    return pusht_image()


def _pusht_image_control_spec() -> ControlSpec:
    from onestride.tasks.pusht.control_spec import image_control_spec

    return image_control_spec()


def _pusht_control_spec() -> ControlSpec:
    from onestride.tasks.pusht.control_spec import control_spec

    return control_spec()


def _quadrotor() -> Task:
    from onestride.tasks.quadrotor.task import task

    return task()


def _quadrotor_control_spec() -> ControlSpec:
    from onestride.tasks.quadrotor.control_spec import control_spec

    return control_spec()


def _maze(name: str) -> Task:
    from onestride.tasks.mazes.task import maze

    return maze(name)


def _maze_control_spec(name: str) -> ControlSpec:
    from onestride.tasks.mazes.control_spec import control_spec

    return control_spec(name)


def _adroit(name: str) -> Task:
    from onestride.tasks.adroit.task import adroit

    return adroit(name)


def _adroit_control_spec(name: str) -> ControlSpec:
    from onestride.tasks.adroit.control_spec import control_spec

    return control_spec(name)


def _cubes(name: str) -> Task:
    from onestride.tasks.cubes.task import cubes

    return cubes(name)


def _cubes_control_spec(name: str) -> ControlSpec:
    from onestride.tasks.cubes.control_spec import control_spec

    return control_spec(name)


def _scene(name: str) -> Task:
    from onestride.tasks.scenes.task import scene

    return scene(name)


def _scene_control_spec(name: str) -> ControlSpec:
    from onestride.tasks.scenes.control_spec import control_spec

    return control_spec(name)


_SCENES = ("scene-drawer", "scene-window", "scene")
_CUBES = ("cube-single", "cube-double")
_HANDS = tuple(f"adroit-{what}" for what in ("pen", "door", "hammer", "relocate"))
_MAZES = tuple(f"{body}-{size}" for body in ("pointmaze", "antmaze") for size in ("umaze", "medium", "large"))
_BODIES = {
    f"{body}-{version}": (body, version) for body in ("halfcheetah", "walker2d", "hopper") for version in ("v5", "v4")
}


#: Those of v4, of other masses and of payloads that change are known by their names too.
_MODIFIED = {f"{change.body}-v5-{change.name}": change for change in CHANGES}


def _by_pattern(name: str) -> Callable[[], Task] | None:
    """Return what makes the task of ``gym:ENVIRONMENT`` or of a modified body, or None for another name."""
    return partial(_modified, name) if is_modified(name) else _gym(name)


def _gym(name: str) -> Callable[[], Task] | None:
    """Return what makes the task of ``gym:ENVIRONMENT``, or None for another name.

    An id with a module is refused, because it may come from data, and the module would be imported.
    """
    kind, _, environment = name.partition(":")
    if kind != "gym" or not environment or ":" in environment:
        return None

    def make() -> Task:
        from onestride.tasks.gym import gym_task

        return gym_task(environment)

    return make


#: Environment variable with further tasks: FILE.py:NAME or MODULE:NAME, separated by commas.
VARIABLE = "ONESTRIDE_TASKS"
TASKS: Registry[Task] = Registry(
    "task",
    "onestride.tasks",
    VARIABLE,
    {"kinova": kinova, "pusht": _pusht, "pusht-image": _pusht_image, "quadrotor": _quadrotor}
    | {name: partial(_locomotion, *which) for name, which in _BODIES.items()}
    | {name: partial(_maze, name) for name in _MAZES}
    | {name: partial(_adroit, name) for name in _HANDS}
    | {name: partial(_cubes, name) for name in _CUBES}
    | {name: partial(_scene, name) for name in _SCENES}
    | {name: partial(_modified, name) for name in _MODIFIED},
    _by_pattern,
)
#: The tasks' control interfaces, without torch.
CONTROL_SPECS: dict[str, Callable[[], ControlSpec]] = (
    {
        "kinova": _kinova_control_spec,
        "pusht": _pusht_control_spec,
        "pusht-image": _pusht_image_control_spec,
        "quadrotor": _quadrotor_control_spec,
    }
    | {name: partial(_body_control_spec, *which) for name, which in _BODIES.items()}
    | {name: partial(_maze_control_spec, name) for name in _MAZES}
    | {name: partial(_adroit_control_spec, name) for name in _HANDS}
    | {name: partial(_cubes_control_spec, name) for name in _CUBES}
    | {name: partial(_scene_control_spec, name) for name in _SCENES}
    | {name: partial(_modified_control_spec, change) for name, change in _MODIFIED.items()}
)
