"""How a trained generator is sampled with other settings: another solver, fewer steps, more guidance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

G = TypeVar("G", bound=nn.Module)


def with_settings(generator: G, change: Callable[[Any], Any]) -> G:
    """Return a generator with other settings. Its weights are the other's, not copies.

    Args:
        generator: stays as it is. Of one around another one (``.planner``), the innermost is changed.
        change: its settings -> those of the new one, which may differ in how it is sampled alone.
    """
    made = copy.copy(generator)
    made._modules = dict(generator._modules)  # else the planner set below would be the other's too
    if "planner" in made._modules:
        made.planner = with_settings(made.planner, change)  # type: ignore[arg-type]
    else:
        made.config = change(made.config)
    return made


def changed(**fields: Any) -> Callable[[Any], Any]:
    """Return the change of these fields."""
    return lambda settings: replace(settings, **fields)


def solver(name: str) -> Callable[[Any], Any]:
    """Return the change to this solver. Settings that have none stay as they are."""
    return lambda settings: replace(settings, solver=name) if hasattr(settings, "solver") else settings
