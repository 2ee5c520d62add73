"""What stands beside the one-step planners of a preset: behaviour cloning, the IQL policy and FQL."""

from __future__ import annotations

from dataclasses import dataclass

from onestride.methods.cloning import CloningConfig
from onestride.methods.fql import FQLConfig
from onestride.methods.iql_policy import IQLPolicyConfig
from onestride.runs.stage import Stage
from onestride.training.config import TrainConfig


@dataclass(frozen=True)
class Family:
    """How IQL is set for a family of data sets, as CORL has it.

    Attributes:
        expectile: of the critic (``IQLConfig``).
        beta: of the policy.
        dropout: of the policy.
    """

    expectile: float = 0.7
    beta: float = 3.0
    dropout: float = 0.0


FAMILIES = {
    "locomotion": Family(),
    "hopper-medium-expert": Family(expectile=0.5, beta=6.0),
    "antmaze": Family(expectile=0.9, beta=10.0),  # with rewards less 1
    "adroit": Family(expectile=0.8, dropout=0.1),
}


def baselines(
    training: TrainConfig,
    family: Family = FAMILIES["locomotion"],
    *,
    seeds: tuple[int, ...] = (0,),
    alpha: float = 10.0,
    ranked_by: str | None = "iql",
) -> tuple[Stage, ...]:
    """Return the stages of BC, the IQL policy and FQL.

    The critic ``iql`` is a stage of its own, before these, with the family's expectile.

    Args:
        training: of all three.
        family: one of ``FAMILIES``.
        seeds: of training.
        alpha: of FQL, which its source tunes to each task.
        ranked_by: ranks FQL's candidates.
    """
    policy = IQLPolicyConfig(beta=family.beta, dropout=family.dropout)
    return (
        Stage(name="bc", role="method", config=CloningConfig(), training=training, seeds=seeds),
        Stage(name="iql-policy", role="method", config=policy, training=training, seeds=seeds),
        Stage(
            name="fql", role="method", config=FQLConfig(alpha=alpha), training=training, seeds=seeds,
            selector=ranked_by,
        ),
    )  # fmt: skip
