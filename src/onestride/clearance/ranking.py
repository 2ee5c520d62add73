"""Candidates without a certificate are ranked last."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from onestride.clearance.filter import ClearanceFilter
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import Decision


class CertifiedFirst:
    """Decides as a policy does, for one of the candidates whose next command has a certificate, where there is one.

    A command of a plan's row must depend on that row and the observation alone. Everything else is the policy's.

    Args:
        policy: what decides: a policy or an engine.
        clearance: the filter of the loop, which knows where the robot is.
        control: the control interface, whose ``commands`` are needed.

    Raises:
        ValueError: the rows of the task's plans are no commands.
    """

    def __init__(self, policy: Any, clearance: ClearanceFilter, control: ControlSpec) -> None:
        if control.commands is None:
            raise ValueError(f"the rows of the plans of '{control.name}' are no commands, so none can be certified")
        self.policy, self.clearance, self.control = policy, clearance, control

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def decide(self, observation: np.ndarray, *, committed: np.ndarray | None = None) -> Decision:
        """Return the decision about an observation (observation_dim,); see ``Policy.decide``."""
        if committed is not None and len(committed):
            return self.policy.decide(observation, committed=committed)  # what is sent is settled
        return certified_first(self.policy.decide(observation), observation, self.clearance, self.control)


def certified_first(
    decision: Decision, observation: np.ndarray, clearance: ClearanceFilter, control: ControlSpec
) -> Decision:
    """Return the decision for the best candidate that has a certificate, or the same decision where none has.

    The scores of candidates without one are lowered below all others.
    """
    began = time.perf_counter()
    if len(decision.plans) < 2 or len(decision.scores) != len(decision.plans):
        return decision
    assert control.commands is not None
    commands = control.commands(decision.plans[:, 0].astype(np.float64), observation)  # (N, A)
    finite = np.isfinite(decision.scores) & np.isfinite(commands).all(1)
    certified = clearance.certified(np.where(finite[:, None], commands, 0.0)) & finite
    scores = np.asarray(decision.scores, np.float64)
    best = int(np.where(finite, scores, -np.inf).argmax())
    if not certified.any() or certified[best]:
        return decision
    span = scores[finite].max() - scores[finite].min() + 1.0
    scores = np.where(certified, scores, scores - span)
    best = int(np.where(finite, scores, -np.inf).argmax())
    took = time.perf_counter() - began
    timings = {**decision.timings, "certify": took, "total": decision.timings["total"] + took}
    return replace(decision, action=commands[best], plan=decision.plans[best], scores=scores, timings=timings)
