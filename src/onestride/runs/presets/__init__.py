"""Presets by name: everything a run needs, chosen together. A preset is a Python function; nothing is set twice.

A preset's file is imported when the preset is asked for, since it needs torch, which takes seconds to import.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from onestride.tasks.bodies import BODIES
from onestride.tasks.modified_bodies.variants import CHANGES

if TYPE_CHECKING:
    from onestride.runs.stage import Preset

BUDGETS = ("small", "full", "tiny")
#: Levels of a Diffuser's U-Net. Plans of all these have a horizon that it halves three times.
LEVELS = (1, 2, 4, 8)
#: An unknown name is answered with so many of the nearest.
NEAREST = 5


def _function(place: str) -> Callable[..., Any]:
    """Return FILE.FUNCTION of this folder."""
    file, _, name = place.partition(".")
    return getattr(import_module(f"onestride.runs.presets.{file}"), name)


def _of(place: str, *arguments: str) -> Callable[[], Preset]:
    return lambda: _function(place)(*arguments)


def _full(small: str, *arguments: str, levels: tuple[int, ...] | None = LEVELS) -> Callable[[], Preset]:
    """Return what makes a small preset of the field's sizes. levels: None: its plans are action chunks."""
    return lambda: _function("for_gpu.full")(_of(small, *arguments)(), multipliers=levels)


def _each(name: str, file: str, *arguments: str, levels: tuple[int, ...] | None = LEVELS) -> dict[str, Any]:
    """Return the three budgets of a file that has a small and a tiny one."""
    return {
        f"{name}-small": _of(f"{file}.small", *arguments),
        f"{name}-full": _full(f"{file}.small", *arguments, levels=levels),
        f"{name}-tiny": _of(f"{file}.tiny", *arguments),
    }


def _medium(body: str, budget: str) -> Callable[[], Preset]:
    return lambda: _function("locomotion.medium")(_function(f"locomotion.{budget}"), body)


def _dp_full() -> Preset:
    return _function("onedp.with_onedp")(_full("pusht.small", levels=None)())


PRESETS: dict[str, Callable[[], Preset]] = {
    **{name: _of(f"kinova.{name}") for name in ("demo", "full", "paper", "tiny")},
    **{f"{body}-{budget}": _of(f"locomotion.{budget}", body) for body in BODIES for budget in BUDGETS},
    **{f"{body}-medium-{budget}": _medium(body, budget) for body in BODIES for budget in BUDGETS},
    **_each("adroit-pen", "adroit", "adroit-pen"),
    **_each("adroit-door", "adroit", "adroit-door"),
    **_each("adroit-hammer", "adroit", "adroit-hammer"),
    **_each("adroit-relocate", "adroit", "adroit-relocate"),
    "gym-small": _of("locomotion.gym_small"),
    "gym-tiny": _of("locomotion.gym_tiny"),
    **_each("pointmaze-umaze", "mazes", "pointmaze-umaze"),
    **_each("pointmaze-medium", "mazes", "pointmaze-medium"),
    **_each("pointmaze-large", "mazes", "pointmaze-large"),
    **_each("antmaze-umaze", "mazes", "antmaze-umaze"),
    **_each("antmaze-medium", "mazes", "antmaze-medium"),
    **_each("antmaze-large", "mazes", "antmaze-large"),
    **_each("pusht", "pusht", levels=None),
    "pusht-dp-small": _of("onedp.small"),
    "pusht-dp-full": _dp_full,
    "pusht-dp-tiny": _of("onedp.tiny"),
    "pusht-image-small": _of("pusht.image_small"),
    "pusht-image-full": _full("pusht.image_small", levels=None),
    "pusht-image-tiny": _of("pusht.image_tiny"),
    **_each("quadrotor", "quadrotor"),
    **_each("cube-single", "cubes", "cube-single", levels=None),
    **_each("cube-double", "cubes", "cube-double", levels=None),
    **_each("scene-drawer", "scenes", "scene-drawer", levels=None),
    **_each("scene-window", "scenes", "scene-window", levels=None),
    **_each("scene", "scenes", "scene", levels=None),
    **{
        f"{change.body}-v5-{change.name}-{budget}": _of(
            "off_dynamics.target", f"{change.body}-v5-{change.name}", budget
        )
        for change in CHANGES
        if "-to-" in change.name
        for budget in BUDGETS
    },
    **{
        f"{body}-source-{budget}": _of("off_dynamics.source", f"{body}-v5", budget)
        for body in BODIES
        for budget in BUDGETS
    },
}


def check(name: str) -> None:
    """Raise ValueError where there is no preset of that name; the message has the nearest, and how to list all."""
    if name not in PRESETS:
        within = [each for each in PRESETS if name and name in each]  # halfcheetah, without a budget
        near = list(dict.fromkeys([*within, *difflib.get_close_matches(name, PRESETS, NEAREST)]))[:NEAREST]
        said = f" The nearest: {', '.join(near)}." if near else ""
        raise ValueError(f"there is no preset '{name}'.{said} `onestride presets` lists all {len(PRESETS)}")


def load(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    check(name)
    return replace(PRESETS[name](), name=name)


def of_dataset(dataset: str, budget: str) -> Preset:
    """Return the preset of a data set: its own, or that of the body that halfcheetah-medium-expert is of.

    Raises:
        ValueError: there is none.
    """
    body = dataset.split("-")[0]
    names = [dataset, *([dataset.removesuffix("-medium-expert"), body] if body in BODIES else [])]
    name = next((f"{name}-{budget}" for name in names if f"{name}-{budget}" in PRESETS), f"{dataset}-{budget}")
    return load(name)


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not there: it names the nearest and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ValueError(f"there is no {what} '{name}'.{hint} There are: {', '.join(known)}")
