"""How each method folds: a method of your own is one more line, or none, and then its policy is exported whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from onestride.engine.affine import Affine
from onestride.engine.fold.consistency import fold_consistency, fold_consistency_policy
from onestride.engine.fold.critic import fold_critic, judged_entries
from onestride.engine.fold.guided import refuse_guided
from onestride.engine.fold.keyed_drift import fold_keyed_drift
from onestride.engine.fold.koopman import fold_koopman
from onestride.engine.fold.meanflow import fold_meanflow
from onestride.engine.fold.parts import Parts, Ranking
from onestride.engine.fold.plan_mlp import fold_cloning, fold_flow_actor
from onestride.engine.fold.plans import fold_plans
from onestride.engine.fold.returns import fold_returns
from onestride.engine.fold.score_distillation import fold_one_step
from onestride.methods.asked import AskedPlanner
from onestride.methods.cloning import Cloning
from onestride.methods.consistency import ConsistencyStudent
from onestride.methods.consistency_policy import ConsistencyPolicy
from onestride.methods.fql import FQLActor
from onestride.methods.guided import GuidedPlanner
from onestride.methods.keyed_drift import KeyedDriftPlanner
from onestride.methods.koopman import KoopmanStudent
from onestride.methods.meanflow import MeanFlowPlanner
from onestride.methods.score_distillation import OneStepStudent
from onestride.selectors.iql import CriticSelector
from onestride.selectors.returns import ReturnSelector
from onestride.tasks.task import Task

T = TypeVar("T")


class SelectorFold(NamedTuple):
    """fold(selector, last, task, plan) -> ``Ranking``, of the last layer's free entries. entries(selector, task): how
    many of them it looks at, from the first; None: all."""

    fold: Callable[[Any, Affine, Task, bool], Ranking]
    entries: Callable[[Any, Task], int] | None = None


#: Generator class -> what makes its parts, or refuses it.
FOLDS: dict[type, Callable[[Any], Parts]] = {
    KoopmanStudent: fold_koopman,
    KeyedDriftPlanner: fold_keyed_drift,
    ConsistencyStudent: fold_consistency,
    OneStepStudent: fold_one_step,
    ConsistencyPolicy: fold_consistency_policy,
    MeanFlowPlanner: fold_meanflow,
    Cloning: fold_cloning,
    FQLActor: fold_flow_actor,
    GuidedPlanner: refuse_guided,
}
#: Selector class -> its fold; any other selector ranks whole plans.
SELECTOR_FOLDS: dict[type, SelectorFold] = {
    CriticSelector: SelectorFold(fold_critic, judged_entries),
    ReturnSelector: SelectorFold(fold_returns),
}
WHOLE_PLANS = SelectorFold(fold_plans)


def generator_fold(generator: Any) -> Callable[[Any], Parts] | None:
    """Return the fold of a generator's class, or of the nearest class it inherits from.

    One that takes conditions folds as the generator inside: their embedding is more of its context. None: it has none,
    or says by ``folds = False`` that this one, with a network of convolutions say, does not fold.
    """
    if isinstance(generator, AskedPlanner):
        inner = generator_fold(generator.planner)
        return None if inner is None else lambda asked: inner(asked.planner)
    return _of_class(FOLDS, generator) if getattr(generator, "folds", True) else None


def selector_fold(selector: Any) -> SelectorFold:
    """Return the fold of a selector's class, or the one of any selector."""
    return _of_class(SELECTOR_FOLDS, selector) or WHOLE_PLANS


def _of_class(table: dict[type, T], thing: Any) -> T | None:
    return next((table[kind] for kind in type(thing).__mro__ if kind in table), None)
