"""Tasks by name. A task's room is entered when it is asked for: it may need libraries others do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from onestride.tasks.task import Task


def kinova() -> Task:
    """Point-to-point moves of a Kinova Gen3 past obstacles."""
    from onestride.tasks.kinova.task import task

    return task()


def _locomotion(body: str, version: str) -> Task:
    from onestride.tasks.locomotion import locomotion

    return locomotion(body, version)  # type: ignore[arg-type]


TASKS: dict[str, Callable[[], Task]] = {"kinova": kinova} | {
    f"{body}-{version}": partial(_locomotion, body, version)
    for body in ("halfcheetah", "walker2d", "hopper")
    for version in ("v5", "v4")
}
