"""A knob that turns itself: a planner is asked for the body that the last two seconds were made by.

Every transition is scored by the classifiers that scored the planner's data (``methods/dynamics.py``), -1 the source's
body ... 1 the target's, and the mean of the last ones is asked for. A payload that is put down is followed within that
time, without anybody saying so.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch

from onestride.methods.dynamics import DynamicsModel
from onestride.robot.decision import Decision

SECONDS = 2.0  # that are averaged over


class FollowDynamics:
    """``decide`` of a planner that takes "dynamics" and "inverse", asked for what the body is like (``Decider``).

    Args:
        decider: a ``Policy`` or ``Engine`` of such a planner.
        model: scores transitions, see ``runs.contexts.load_contexts``.
        of_source: the inverse error that plans of the source's body have; 0 is asked of the target's.
        at_first: dynamics asked for until ``SECONDS`` have been seen, -1 ... 1.
    """

    def __init__(self, decider: Any, model: DynamicsModel, of_source: float, at_first: float = -1.0) -> None:
        self.decider, self.control, self.nfe = decider, decider.control, decider.nfe
        self.model, self.of_source, self.at_first = model.eval().requires_grad_(False), of_source, at_first
        self.reset(0)

    @property
    def dynamics(self) -> float:
        """What is asked for now, -1 ... 1."""
        if len(self._scores) < (self._scores.maxlen or 0):
            return self.at_first
        return float(np.mean(self._scores))

    def reset(self, seed: int) -> None:
        """Start over: noise from this seed, and nothing seen yet."""
        self.decider.reset(seed)
        self._scores: deque[float] = deque(maxlen=max(round(SECONDS / self.control.control_dt), 1))
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    @torch.inference_mode()
    def observe(self, observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> None:
        """Take in a transition: observations (O,) before and after an action (A,), in the task's units."""
        rows = (torch.as_tensor(np.asarray(each, np.float32))[None] for each in (observation, action, following))
        score = self.model.scores(self.model.log_odds(self.model.inputs(*rows)))
        if bool(score.isfinite()):
            self._scores.append(float(score))

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the planner's decision (see its own ``decide``), asked for what was seen up to this observation."""
        if self._last is not None:
            self.observe(*self._last, observation)
        dynamics = self.dynamics
        self.decider.ask(**{"return": 1.0, "dynamics": dynamics, "inverse": (1 - dynamics) / 2 * self.of_source})
        decision = self.decider.decide(observation)
        self._last = np.array(observation), np.array(decision.action)
        return decision
