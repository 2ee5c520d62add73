"""Decisions: what a policy gives for an observation, or why it gives nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError


class Decider(Protocol):
    """Anything that decides: a policy, an exported engine, a remote policy."""

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the decision about an observation (observation_dim,).

        Raises:
            ObservationError: the observation cannot be acted on.
            NoPlanError: no candidate is finite.
        """
        ...


@dataclass(frozen=True)
class Decision:
    """The result of a decision.

    Attributes:
        action: the command (A,) in the robot's units.
        plan: the selected plan (H, D) in task units.
        plans: the candidates' plans (N, H, D). An engine that does not decode all of them gives fewer.
        scores: the candidates' scores (N,), higher is better. For candidates that cannot win an engine may give an
            upper bound that is not above the winner's score.
        timings: durations of "encode", "generate", "select" and "total" [s]. A robot waits for the total.
    """

    action: np.ndarray
    plan: np.ndarray
    plans: np.ndarray
    scores: np.ndarray
    timings: dict[str, float]


def decided(policy: Any, observation: np.ndarray, committed: np.ndarray | None = None) -> Decision:
    """Return the decision of ``policy`` about an observation (observation_dim,).

    Args:
        policy: a ``Decider``; with commands committed one whose ``decide`` takes them, such as a policy or an engine.
        observation: what it decides about.
        committed: commands that are sent next whatever is decided (n, A), or None.

    Raises:
        TypeError: the policy returned something other than a Decision.
        Exception: what the policy raised.
    """
    decision = policy.decide(observation) if committed is None else policy.decide(observation, committed=committed)
    if not isinstance(decision, Decision):
        raise TypeError(f"{type(policy).__name__}.decide gave {type(decision).__name__}, expected a Decision")
    return decision


def chunk_of(spec: ControlSpec, plan: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Return the first ``n_action_steps`` commands (n_action_steps, A) of a plan (H, D) made for an observation."""
    assert spec.commands is not None
    return spec.commands(plan.astype(np.float64), observation)[: spec.n_action_steps]


class NoPlanError(ArithmeticError):
    """Raised where no candidate is finite, so that there is nothing to send."""


class NoAnswerError(NoPlanError):
    """Raised where a server gave no answer: it is late, gone, or failed. There is nothing to send to the robot."""


def none_finite(candidates: int) -> NoPlanError:
    """Return the error for a decision whose ``candidates`` are all not finite."""
    return NoPlanError(
        f"none of {candidates} candidates is finite; is the checkpoint trained, and is the observation one of its task?"
    )


# ---------------------------------------------------------------- asynchronous inference


@dataclass(frozen=True)
class AsyncAnswer:
    """An asynchronous policy's decision about one observation, or why there is none.

    Attributes:
        observed: clock time of the observation [s].
        observation: (observation_dim,).
        decision: the decision, or None.
        no_plan: why there is no decision, or None.
        took: wall time of the decision [s].
        number: counts the answers from 1. A gap means that an answer was replaced before it was taken.
    """

    observed: float
    observation: np.ndarray
    decision: Decision | None
    no_plan: NoPlanError | ObservationError | None
    took: float
    number: int


@runtime_checkable
class AsyncDecider(Protocol):
    """Anything that decides while the loop goes on."""

    def submit(self, observation: np.ndarray, observed: float, committed: np.ndarray | None = None) -> None:
        """Decide about this observation next. It replaces one that still waits.

        Args:
            observation: (observation_dim,).
            observed: clock time at which it was made [s].
            committed: commands that are sent next whatever is decided (n, A), or None. A loop commits nothing unless
                the ``longest_prefix`` of this object says that it may.
        """
        ...

    def poll(self, until: float) -> AsyncAnswer | None:
        """Return the newest answer that was not taken yet, or None where there is none by clock time ``until`` [s]."""
        ...
