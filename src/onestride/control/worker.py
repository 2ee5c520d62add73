"""Decisions beside the loop, in a thread of their own: the loop can still act when one of them is late.

One slot in, one slot out, latest wins: a queue would only hand over the past. Networks compute without Python's lock,
so the loop's thread runs meanwhile.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from onestride.control.realtime import step_back
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Answer, Decider, NoPlanError, decided


class Worker:
    """Asks ``policy`` in a daemon thread. Use as a context manager: leaving it ends the thread."""

    def __init__(self, policy: Decider, clock: Clock) -> None:
        self.policy, self.clock = policy, clock
        self._changed = threading.Condition()
        self._asked: tuple[float, np.ndarray] | None = None
        self._answer: Answer | None = None
        self._broken: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="decisions", daemon=True)

    def __enter__(self) -> Worker:
        if self._thread.ident is not None:
            raise RuntimeError("a Worker decides within one with-block; make another for the next")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=5.0)  # a decision that never ends is left behind

    def warm_up(self, observation: np.ndarray, calls: int = 50) -> Answer:
        """Decide and throw away, in the thread that will decide; returns the last.

        Raises:
            NoPlanError, ObservationError: the policy has no plan for it.
            TimeoutError: a decision took longer than a minute.
            ValueError: there are no calls.
        """
        if calls < 1:
            raise ValueError(f"calls is {calls}, expected at least 1")
        answer = None
        for _ in range(calls):
            self.ask(observation, self.clock.now())
            answer = self.answer(self.clock.now() + 60.0)
            if answer is None:
                raise TimeoutError("no decision in a minute of warm-up; is the device right for this checkpoint?")
            if answer.no_plan is not None:
                raise answer.no_plan
        assert answer is not None
        return answer

    def ask(self, observation: np.ndarray, observed: float) -> None:
        """Decide about this one next; one that still waits is replaced.

        Raises:
            RuntimeError: nobody would: the thread has not begun, or has ended.
        """
        if self._thread.ident is None or self._closed:
            raise RuntimeError(
                "nobody decides: use the Worker within its with-block (with Worker(policy, clock) as ...)"
            )
        with self._changed:
            self._asked = (observed, observation.copy())  # a driver may fill the same array again
            self._changed.notify_all()

    def answer(self, until: float) -> Answer | None:
        """The newest answer nobody took yet; waits for it up to clock time ``until``, then None.

        Raises:
            Exception: whatever the policy raised, other than NoPlanError and ObservationError, which are answers.
        """
        with self._changed:
            while self._answer is None and self._broken is None:
                left = until - self.clock.now()
                if left <= 0:
                    return None
                self._changed.wait(left)
            if self._broken is not None:
                raise self._broken
            answer, self._answer = self._answer, None
            return answer

    def _work(self) -> None:
        step_back()
        number = 0
        while True:
            with self._changed:
                while self._asked is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._asked is None:
                    return
                (observed, observation), self._asked = self._asked, None
            decision = no_plan = None
            began = time.perf_counter()
            try:
                decision = decided(self.policy, observation)
            except (NoPlanError, ObservationError) as error:
                no_plan = error.with_traceback(None)  # it would keep this call's memory
            except BaseException as error:  # the loop's thread must hear of it, whatever it is
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
                return
            took = time.perf_counter() - began
            number += 1
            with self._changed:
                self._answer = Answer(observed, observation, decision, no_plan, took, number)
                self._changed.notify_all()
