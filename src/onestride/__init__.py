"""onestride: diffusion planners that need one network call per decision.

Rooms, from the ground up; imports point up this list, never down (tests/test_layers.py)::

    networks/    mlp, unet1d, embeddings, the normaliser
    robot/       what a robot is to its planner: specification, limits, clock, decision; NumPy alone
    plans/       the shape of a plan and what of it is known before it is made
    diffusion/   schedules and samplers: mathematics only
    data/        episodes and where they come from
    methods/     generators: the diffusion teachers and the one-step students
    selectors/   scores for candidate plans
    tasks/       what a robot and a problem are
    training/    the one optimisation loop, and windows of episodes
    policy/      normaliser + generator + selector: decide(observation)
    control/     the one episode loop, synchronous and asynchronous; no torch
    engine/      the fast path: one decision as one graph
    serving/     a policy for clients elsewhere, and a client
    hub/         folders that are shared by a model hub
    runs/        a run's folder, its stages, presets
    evaluation/  rollouts, metrics, figures, report
    commands/    the program

Shapes: B batch, N candidates, H horizon, O observation columns of a plan, A action columns, D = O + A,
C context, L latent. A plan is ``(B, H, D)``, observation first, then action, normalised. Row 0 is now:
its observation is known (fixed), its action is the one that is executed. The noise index k runs from N
(noise) to 0 (data).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onestride.errors import naming_extras
from onestride.robot.decision import Decision

if TYPE_CHECKING:
    from onestride.engine.engine import Engine
    from onestride.policy.policy import Policy

__version__ = "0.1.0"
__all__ = ["Decision", "Engine", "Policy", "__version__"]


def __getattr__(name: str) -> Any:
    """Policies and engines when they are asked for: a policy needs torch, which takes seconds to import."""
    if name == "Policy":
        with naming_extras():
            from onestride.policy.policy import Policy

        return Policy
    if name == "Engine":
        from onestride.engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
