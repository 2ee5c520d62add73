"""Guided teachers do not fold."""

from __future__ import annotations

from typing import NoReturn

from onestride.engine.fold.parts import NoEngineError
from onestride.methods.guided import GuidedPlanner


def refuse_guided(planner: GuidedPlanner) -> NoReturn:
    """Raise NoEngineError: every step needs a gradient."""
    del planner
    raise NoEngineError(
        "a guided teacher differentiates its return model at every step, which no engine does: run the policy itself "
        "(without --engine)"
    )
