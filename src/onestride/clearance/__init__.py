"""Clearance that is proved: capsules, certificates, the filter between plan and robot. NumPy, and C where it can be.

``FILTERS`` names the tasks that have one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onestride.clearance.filter import ClearanceFilter

#: A task's name -> what makes its filter, by ``margin``, ``obstacle_speed`` and ``max_age``.
FILTERS: dict[str, Callable[..., ClearanceFilter]] = {
    name: lambda _name=name, **options: import_module(f"onestride.clearance.{_name}").clearance_filter(**options)
    for name in ("kinova", "quadrotor")
}
