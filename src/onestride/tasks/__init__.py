"""Tasks by name. A task is made when asked for: its room may need libraries others do not."""

from collections.abc import Callable

from onestride.tasks.kinova.task import task as kinova
from onestride.tasks.task import Task

TASKS: dict[str, Callable[[], Task]] = {"kinova": kinova}
