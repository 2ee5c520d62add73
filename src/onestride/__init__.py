"""onestride: diffusion planners that need one network call per decision.

What flows through it, in reading order::

    data/        episodes -> windows, normalised
    tasks/       what a robot and a problem are: shapes, context, which entries the observation fixes
    diffusion/   the teacher: a trajectory-diffusion planner with many network calls
    students/    teacher-target pairs, and the one-step students distilled from them
    selectors/   scores for candidate plans
    control/     policy = normaliser + generator + selector; the one episode loop and its clocks
    engine/      the fast path: one decision as one graph
    evaluation/  rollouts, metrics, figures, report

Shapes: B batch, N candidates, H horizon, O observation columns of a plan, A action columns, D = O + A,
C context, L latent. A plan is ``(B, H, D)``, observation first, then action, normalised. Row 0 is now:
its observation is known (fixed), its action is the one that is executed. The noise index k runs from N
(noise) to 0 (data).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onestride.control.decision import Decision

if TYPE_CHECKING:
    from onestride.control.policy import Policy
    from onestride.engine.engine import Engine

__version__ = "0.1.0"
__all__ = ["Decision", "Engine", "Policy", "__version__"]


def __getattr__(name: str) -> Any:
    """Policies and engines when they are asked for: a policy needs torch, which takes seconds to import."""
    if name == "Policy":
        from onestride.control.policy import Policy

        return Policy
    if name == "Engine":
        from onestride.engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
