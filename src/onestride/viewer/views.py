"""How tasks are shown, by the beginning of their names. A task without a view is shown as plots of its numbers.

A view for another task is one function ``view(task) -> View`` in a file of its own, and a line in ``VIEWS``, or in
somebody else's package an entry point of the group ``onestride.views`` by the task's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from onestride.tasks.task import Task
from onestride.viewer.parts import Part
from onestride.viewer.tap import Place


@dataclass(frozen=True)
class View:
    """How a task is shown. Lengths are in metres, z is up.

    Attributes:
        fixed: parts that never move.
        parts: maps what the robot gave last (step_dim,), without images, to the parts that move.
        handles: names of what may be dragged, at most ``HANDLES``; parts say by which handle they move.
        place: moves one of them in a simulated robot's world (by its name, to a position (3,)); it raises ValueError
            where it cannot be.
        paths: maps positions of the task's plans (..., 3) to those of the scene; a task in pixels has another scale.
        flat: whether things are dragged in the plane z = constant alone.
        eye: the camera's position (3,) [m].
        gaze: what the camera looks at (3,) [m].
        label: where the method's name stands (3,) [m].
        spacing: how far the next method's scene stands beside this one's [m].
    """

    fixed: Sequence[Part]
    parts: Callable[[np.ndarray], Sequence[Part]]
    handles: tuple[str, ...]
    place: Place
    paths: Callable[[np.ndarray], np.ndarray] = lambda positions: positions
    flat: bool = False
    eye: tuple[float, float, float] = (1.6, -1.2, 1.0)
    gaze: tuple[float, float, float] = (0.3, 0.0, 0.2)
    label: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float, float] = (0.0, 1.0, 0.0)


#: Beginning of a task's name -> module of ``onestride.viewer`` with its function ``view``.
VIEWS = {"kinova": "arm", "pointmaze": "maze", "antmaze": "maze", "pusht": "pusht"}
GROUP = "onestride.views"


def view_of(task: Task) -> View | None:
    """Return how a task is shown, or None where there is nothing but its numbers."""
    for point in entry_points(group=GROUP, name=task.name):
        return point.load()(task)
    for beginning, module in VIEWS.items():
        if task.name.startswith(beginning):
            make: Any = import_module(f"onestride.viewer.{module}").view
            return make(task)
    return None
