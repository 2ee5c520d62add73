"""Asynchronous inference in a thread of its own, so that the loop can act when a decision is late.

There is one slot for observations and one for answers, and the latest wins: a queue would only deliver old ones.
Networks compute without Python's global lock, so that the loop's thread runs meanwhile.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from onestride.control.realtime import lower_priority
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import AsyncAnswer, Decider, NoAnswerError, NoPlanError, decided

#: So many answers of a server may stay away one after the other while it warms up.
AWAY = 20


class AsyncPolicy:
    """Runs ``policy`` in a daemon thread, which lasts as long as the with-block that this is used in.

    Args:
        policy: what decides.
        clock: the loop's clock.
    """

    def __init__(self, policy: Decider, clock: Clock) -> None:
        self.policy, self.clock = policy, clock
        self._changed = threading.Condition()
        self._asked: tuple[float, np.ndarray, np.ndarray | None] | None = None
        self._answer: AsyncAnswer | None = None
        self._broken: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="decisions", daemon=True)

    @property
    def longest_prefix(self) -> int:
        """How many commands may be committed when the policy decides."""
        return getattr(self.policy, "longest_prefix", 0)

    def __enter__(self) -> AsyncPolicy:
        if self._thread.ident is not None:
            raise RuntimeError("an AsyncPolicy decides in one with-block; make another for the next")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=5.0)  # a decision that never ends is left behind

    def warm_up(self, observation: np.ndarray, calls: int = 50) -> AsyncAnswer:
        """Decide ``calls`` times in the thread that will decide, and return the last answer.

        A server's first answers may come late: what stays away is asked for again, and does not count.

        Raises:
            NoAnswerError: a server gave no answer so many times in a row.
            NoPlanError: the policy finds no plan for the observation.
            ObservationError: the observation cannot be acted on.
            TimeoutError: a decision took longer than a minute.
            ValueError: ``calls`` is less than 1.
        """
        if calls < 1:
            raise ValueError(f"calls is {calls}, expected at least 1")
        answer, made, away = None, 0, 0
        while made < calls:
            self.submit(observation, self.clock.now())
            answer = self.poll(self.clock.now() + 60.0)
            if answer is None:
                raise TimeoutError("no decision in a minute of warm-up; is the device right for this checkpoint?")
            away = away + 1 if isinstance(answer.no_plan, NoAnswerError) else 0
            if away in range(1, AWAY):
                continue
            if answer.no_plan is not None:
                raise answer.no_plan
            made += 1
        assert answer is not None
        return answer

    def submit(self, observation: np.ndarray, observed: float, committed: np.ndarray | None = None) -> None:
        """Decide about this observation next. It replaces one that still waits.

        Args:
            observation: (observation_dim,), copied.
            observed: clock time at which it was made [s].
            committed: commands that are sent next whatever is decided (n, A), or None.

        Raises:
            RuntimeError: the thread has not begun, or has ended.
        """
        if self._thread.ident is None or self._closed:
            raise RuntimeError(
                "no thread decides: use the AsyncPolicy in its with-block (with AsyncPolicy(policy, clock) as ...)"
            )
        with self._changed:
            self._asked = (observed, observation.copy(), committed)  # a driver may fill the same array again
            self._changed.notify_all()

    def poll(self, until: float) -> AsyncAnswer | None:
        """Return the newest answer that was not taken yet, or None where there is none by clock time ``until`` [s].

        Raises:
            Exception: what the policy raised, except NoPlanError and ObservationError, which are answers.
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
        lower_priority()
        number = 0
        while True:
            with self._changed:
                while self._asked is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._asked is None:
                    return
                (observed, observation, committed), self._asked = self._asked, None
            decision = no_plan = None
            began = time.perf_counter()
            try:
                decision = decided(self.policy, observation, committed)
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
                self._answer = AsyncAnswer(observed, observation, decision, no_plan, took, number)
                self._changed.notify_all()
