"""Presets by name: everything a run needs, chosen together. A preset is a Python function; nothing is set twice."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial

from onestride.runs.presets import (
    adroit,
    cubes,
    for_gpu,
    kinova,
    locomotion,
    mazes,
    off_dynamics,
    onedp,
    pusht,
    quadrotor,
    scenes,
)
from onestride.runs.stage import Preset
from onestride.tasks.bodies import BODIES

BUDGETS = (("small", locomotion.small), ("full", locomotion.full), ("tiny", locomotion.tiny))
#: Levels of a Diffuser's U-Net. Plans of all these have a horizon that it halves three times.
LEVELS = (1, 2, 4, 8)


def _full(small: Callable[..., Preset], *arguments: str, levels: tuple[int, ...] | None = None) -> Preset:
    return for_gpu.full(small(*arguments), multipliers=levels)


def _dp_full() -> Preset:
    return onedp.with_onedp(_full(pusht.small))


PRESETS: dict[str, Callable[[], Preset]] = {
    "demo": kinova.demo,
    "full": kinova.full,
    "paper": kinova.paper,
    "tiny": kinova.tiny,
    **{
        f"{body}-{budget}": partial(make, body)
        for body in ("halfcheetah", "walker2d", "hopper")
        for budget, make in BUDGETS
    },
    **{
        f"{body}-medium-{budget}": partial(locomotion.medium, make, body)
        for body in ("halfcheetah", "walker2d", "hopper")
        for budget, make in BUDGETS
    },
    **{
        f"{hand}-{budget}": partial(make, hand)
        for hand in ("adroit-pen", "adroit-door", "adroit-hammer", "adroit-relocate")
        for budget, make in (
            ("small", adroit.small),
            ("full", partial(_full, adroit.small, levels=LEVELS)),
            ("tiny", adroit.tiny),
        )
    },
    "gym-small": locomotion.gym_small,
    "gym-tiny": locomotion.gym_tiny,
    **{
        f"{maze}-{budget}": partial(make, maze)
        for maze in mazes.SIZES
        for budget, make in (
            ("small", mazes.small),
            ("full", partial(_full, mazes.small, levels=LEVELS)),
            ("tiny", mazes.tiny),
        )
    },
    "pusht-small": pusht.small,
    "pusht-full": partial(_full, pusht.small),
    "pusht-tiny": pusht.tiny,
    "pusht-dp-small": onedp.small,
    "pusht-dp-full": _dp_full,
    "pusht-dp-tiny": onedp.tiny,
    "pusht-image-small": pusht.image_small,
    "pusht-image-full": partial(_full, pusht.image_small),
    "pusht-image-tiny": pusht.image_tiny,
    "quadrotor-small": quadrotor.small,
    "quadrotor-full": partial(_full, quadrotor.small, levels=LEVELS),
    "quadrotor-tiny": quadrotor.tiny,
    **{
        f"{task}-{budget}": partial(make, task)
        for task in ("cube-single", "cube-double")
        for budget, make in (("small", cubes.small), ("full", partial(_full, cubes.small)), ("tiny", cubes.tiny))
    },
    **{
        f"{task}-{budget}": partial(make, task)
        for task in scenes.ABOUT
        for budget, make in (("small", scenes.small), ("full", partial(_full, scenes.small)), ("tiny", scenes.tiny))
    },
    **{
        f"{task}-{budget}": partial(off_dynamics.target, task, budget)
        for task in off_dynamics.BODIES
        if "-to-" in task
        for budget in ("small", "full", "tiny")
    },
    **{
        f"{body}-source-{budget}": partial(off_dynamics.source, f"{body}-v5", budget)
        for body in BODIES
        for budget in ("small", "full", "tiny")
    },
}


def load(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        ValueError: there is none; the message names the nearest and all of them.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]()


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
