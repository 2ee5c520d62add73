"""Decisions beside the loop that take as long as one says, in simulated time: what lateness does, without waiting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Answer, Decider, NoPlanError


class Later:
    """Answers as a ``Worker`` would: one observation is worked on for its cost [s], and the newest one waits."""

    def __init__(self, policy: Decider, clock: ChargedClock, costs: Iterator[float]) -> None:
        self.policy, self.clock, self.costs = policy, clock, costs
        self.waiting: tuple[np.ndarray, float] | None = None
        self.working: tuple[float, Answer] | None = None  # when it is ready
        self.ready: Answer | None = None
        self.number = 0

    def ask(self, observation: np.ndarray, observed: float) -> None:
        """Decide about this one next; one that still waits is replaced."""
        self._advance()
        if self.working is None:
            self._start(observation.copy(), observed, self.clock.now())
        else:
            self.waiting = observation.copy(), observed

    def answer(self, until: float) -> Answer | None:
        """The newest answer nobody took yet; lets time pass up to ``until`` for it, then None."""
        self._advance()
        while self.ready is None:
            if self.working is None or self.working[0] > until:
                self.clock.sleep_until(until)
                self._advance()
                break
            self.clock.sleep_until(self.working[0])
            self._advance()
        answer, self.ready = self.ready, None
        return answer

    def _start(self, observation: np.ndarray, observed: float, at: float) -> None:
        cost, decision, no_plan = next(self.costs), None, None
        try:
            decision = self.policy.decide(observation)
        except (NoPlanError, ObservationError) as error:
            no_plan = error
        self.number += 1
        self.working = at + cost, Answer(observed, observation, decision, no_plan, cost, self.number)

    def _advance(self) -> None:
        while self.working is not None and self.working[0] <= self.clock.now() + 1e-12:
            at, self.ready = self.working
            self.working = None
            if self.waiting is not None:
                (observation, observed), self.waiting = self.waiting, None
                self._start(observation, observed, at)
