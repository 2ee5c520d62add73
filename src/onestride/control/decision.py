"""What a decision gives, or that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Decider(Protocol):
    """Anything that decides: a policy, an exported graph, a remote one."""

    def decide(self, observation: np.ndarray) -> Decision: ...


@dataclass(frozen=True)
class Decision:
    """action (A,) in the robot's units; the chosen plan (H, D) in task units; every candidate's plan and score.

    plans (N, H, D) and scores (N,), higher is better; what does not decode all candidates gives fewer plans, and of
    those who could not win an engine may give bounds of their scores, no more than the winner's.
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
