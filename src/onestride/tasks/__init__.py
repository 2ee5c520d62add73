"""Tasks by name. A task's room is entered when it is asked for: it may need libraries others do not."""

from __future__ import annotations

from collections.abc import Callable

from onestride.tasks.task import Task


def kinova() -> Task:
    """Point-to-point moves of a Kinova Gen3 past obstacles."""
    from onestride.tasks.kinova.task import task

    return task()


TASKS: dict[str, Callable[[], Task]] = {"kinova": kinova}
