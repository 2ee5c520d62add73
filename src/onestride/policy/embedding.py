"""What a generator is told beside noise: made once per decision, before candidates are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from onestride.methods.asked import AskedPlanner
from onestride.methods.prefixed import PrefixedPlanner


def embedded(
    generator: Any,
    context: Tensor,
    images: Mapping[str, Tensor] | None = None,
    asked: Mapping[str, Tensor] | None = None,
    committed: Tensor | None = None,
) -> Tensor:
    """Return what a generator makes of the context (B, C) once per decision, before candidates are drawn.

    That is its ``embed(context)``, such as an image encoder's; without one the context as it is. Where the task has
    cameras it is ``embed(context, images)``, images (B, n_obs_steps, height, width, 3) by name; of an ``AskedPlanner``
    it is ``embed(context, asked)``, conditions (1 or B, size) by name; of a ``PrefixedPlanner`` it is
    ``embed(context, committed)``, actions (1 or B, P, A) of the first rows, normalised.
    """
    if not hasattr(generator, "embed"):
        return context
    if isinstance(generator, PrefixedPlanner):
        return generator.embed(context, committed)
    if isinstance(generator, AskedPlanner):
        return generator.embed(context, asked or {})
    return generator.embed(context, images) if images else generator.embed(context)


def inside(generator: Any, asked: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what ``sample`` is given beside the context: conditions that ``embedded`` has not taken in."""
    return {"conditions": asked} if asked and not isinstance(generator, AskedPlanner) else {}
