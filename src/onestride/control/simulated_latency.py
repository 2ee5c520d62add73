"""Asynchronous inference in simulated time: each decision takes a given time, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import AsyncAnswer, Decider, NoPlanError, decided


class SimulatedLatency:
    """A policy with the interface of ``AsyncPolicy`` whose decisions take a given time of a simulated clock.

    One observation is decided on at a time. Of those submitted meanwhile, the newest waits.

    Args:
        policy: what decides.
        clock: the simulated clock.
        latencies: the duration of each decision, in order [s].
    """

    def __init__(self, policy: Decider, clock: ChargedClock, costs: Iterator[float]) -> None:
        self.policy, self.clock, self.costs = policy, clock, costs
        self.longest_prefix: int = getattr(policy, "longest_prefix", 0)
        self.waiting: tuple[np.ndarray, float, np.ndarray | None] | None = None
        self.working: tuple[float, AsyncAnswer] | None = None  # when it is ready
        self.ready: AsyncAnswer | None = None
        self.number = 0

    def submit(self, observation: np.ndarray, observed: float, committed: np.ndarray | None = None) -> None:
        """Decide about this observation next. It replaces one that still waits. committed: see ``AsyncDecider``."""
        self._advance()
        if self.working is None:
            self._start(observation.copy(), observed, committed, self.clock.now())
        else:
            self.waiting = observation.copy(), observed, committed

    def poll(self, until: float) -> AsyncAnswer | None:
        """Return the newest answer that was not taken yet, or None where there is none by clock time ``until`` [s]."""
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

    def _start(self, observation: np.ndarray, observed: float, committed: np.ndarray | None, at: float) -> None:
        cost, decision, no_plan = next(self.costs), None, None
        try:
            decision = decided(self.policy, observation, committed)
        except (NoPlanError, ObservationError) as error:
            no_plan = error
        self.number += 1
        self.working = at + cost, AsyncAnswer(observed, observation, decision, no_plan, cost, self.number)

    def _advance(self) -> None:
        while self.working is not None and self.working[0] <= self.clock.now() + 1e-12:
            at, self.ready = self.working
            self.working = None
            if self.waiting is not None:
                (observation, observed, committed), self.waiting = self.waiting, None
                self._start(observation, observed, committed, at)
