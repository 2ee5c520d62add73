"""Modified bodies as tasks: the stock task in another environment, so that data of both train one planner.

Horizon, control period, reference returns and plans are those of ``locomotion.py``. Nobody has published reference
returns of these bodies: a score of 1 is what D4RL's expert earns with the stock one, and the return is in every record
besides.
"""

from __future__ import annotations

import re

import numpy as np

from onestride.tasks.bodies import BODIES, Version, control_spec
from onestride.tasks.locomotion import body_task
from onestride.tasks.modified_bodies.environment import make_modified, registered
from onestride.tasks.modified_bodies.variants import NAMES, Change, Edit, find, is_modified
from onestride.tasks.task import Task


def modified(name: str) -> Task:
    """Return the task ``name``, one of ``NAMES`` or another that ``find`` knows.

    Raises:
        ValueError: there is no such modified body, or its numbers are out of range.
    """
    found = find(name)
    if found is None:
        raise ValueError(f"there is no modified body '{name}'; there are: {', '.join(NAMES)}")
    change, version = found
    return body_task(change.body, change.control_spec(version), registered(name, change, version))


def payload_changes(at_step: int, mass: float, version: Version = "v5") -> Task:
    """Return the task of a HalfCheetah that has its stock 14 kg up to a step of every episode, and ``mass`` from then.

    Position and velocity go on unchanged. It is the task of a name too: ``halfcheetah-v5-mass-14-to-7-at-500``.

    Args:
        at_step: the first step with the other mass, from 1 to 999; the episode's first is step 0.
        mass: of the whole body, from 3 to 14 [kg].
        version: of the environment.

    Raises:
        ValueError: a number is out of range.
    """
    return modified(f"halfcheetah-{version}-mass-14-to-{mass:g}-at-{at_step}")


def modified_body(
    body: str, name: str, edit: Edit, version: Version = "v5", reference: tuple[float, float] | None = None
) -> Task:
    """Return the task of a body of your own: a stock one with a change.

    Args:
        body: "halfcheetah", "walker2d" or "hopper".
        name: of the change, such as ``heavy-foot``; the task is ``<body>-<version>-<name>``.
        edit: changes the ``mujoco.MjSpec`` of Gymnasium's XML in place.
        version: of Gymnasium's environment.
        reference: returns that count as 0 and as 1; None: D4RL's of the stock body.

    Raises:
        ValueError: no such body, a name that is taken or cannot be one, or a change that MuJoCo refuses, that names a
            part which is not there, or that makes a robot of other sizes.
    """
    if body not in BODIES:
        raise ValueError(f"there is no body '{body}' to modify; there are: {', '.join(BODIES)}")
    if version not in ("v4", "v5"):
        raise ValueError(f"version is '{version}', expected v4 or v5")
    if re.fullmatch(r"[\w.]+(-[\w.]+)*", name, re.ASCII) is None:
        raise ValueError(f"a change of a body cannot be called '{name}'; use letters, digits, dots and single hyphens")
    task = f"{body}-{version}-{name}"
    if is_modified(task):
        raise ValueError(f"'{task}' is a modified body that is built in; give yours another name")
    environment = registered(task, Change(body, name, edit), version)
    made = make_modified(task)  # MuJoCo compiles the body, or refuses it
    low, high = np.asarray(made.action_space.low), np.asarray(made.action_space.high)  # type: ignore[attr-defined]
    made.close()
    return body_task(body, control_spec(body, version, task, low, high), environment, reference)
