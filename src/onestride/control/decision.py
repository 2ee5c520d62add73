"""What a decision gives, or that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from onestride.tasks.interface import ObservationError


class Decider(Protocol):
    """Anything that decides: a policy, an exported graph, a remote one."""

    def decide(self, observation: np.ndarray) -> Decision: ...


@dataclass(frozen=True)
class Decision:
    """action (A,) in the robot's units; the chosen plan (H, D) in task units; every candidate's plan and score.

    plans (N, H, D) and scores (N,), higher is better; what does not decode all candidates gives fewer plans.
    timings [s]: encode, generate, select, total; total is what a robot waits.
    """

    action: np.ndarray
    plan: np.ndarray
    plans: np.ndarray
    scores: np.ndarray
    timings: dict[str, float]


def decided(policy: Decider, observation: np.ndarray) -> Decision:
    """What ``policy`` decides.

    Raises:
        TypeError: that is no Decision. And whatever the policy raises.
    """
    decision = policy.decide(observation)
    if not isinstance(decision, Decision):
        raise TypeError(f"{type(policy).__name__}.decide gave {type(decision).__name__}, expected a Decision")
    return decision


class NoPlanError(ArithmeticError):
    """Not one candidate is finite: there is nothing to send, the robot holds."""


def none_finite(candidates: int) -> NoPlanError:
    """The error where so many were drawn."""
    return NoPlanError(
        f"none of {candidates} candidates is finite; is the checkpoint trained, and is the observation one of its task?"
    )


# ---------------------------------------------------------------- while the loop goes on


@dataclass(frozen=True)
class Answer:
    """A decision, or why there is none, about the observation (observation_dim,) of time ``observed``.

    took: its wall time [s]. number: how many answers this one makes; a gap says that one was replaced unseen.
    """

    observed: float
    observation: np.ndarray
    decision: Decision | None
    no_plan: NoPlanError | ObservationError | None
    took: float
    number: int


@runtime_checkable
class Beside(Protocol):
    """Decides while the loop goes on."""

    def ask(self, observation: np.ndarray, observed: float) -> None:
        """Decide about this one next; one that still waits is replaced."""
        ...

    def answer(self, until: float) -> Answer | None:
        """The newest answer nobody took yet; waits for it up to clock time ``until``, then None."""
        ...
