"""What a decision gives, or that there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


class NoPlanError(ArithmeticError):
    """Not one candidate is finite: there is nothing to send, the robot holds."""
