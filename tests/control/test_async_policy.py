"""Decisions in a thread of their own. Threads meet at events; nothing is asserted about how long anything takes."""

import threading

import numpy as np
import pytest

from onestride.control.async_policy import AWAY, AsyncPolicy
from onestride.robot.clock import RealClock
from onestride.robot.decision import AsyncDecider, Decision, NoAnswerError, NoPlanError

CLOCK = RealClock()
LONG = 30.0  # a test that hangs has failed [s]


class Gated:
    """Decides when it is let; the action is the observation."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entered, self.safety_filter, self.error = threading.Semaphore(0), threading.Semaphore(0), error
        self.seen: list[float] = []

    def decide(self, observation: np.ndarray) -> Decision:
        self.seen.append(float(observation[0]))
        self.entered.release()
        assert self.safety_filter.acquire(timeout=LONG)
        if self.error is not None:
            raise self.error
        return Decision(observation, np.zeros((4, 2)), np.zeros((1, 4, 2)), np.zeros(1), {})


def until() -> float:
    return CLOCK.now() + LONG


def test_an_answer_names_its_observation_and_is_given_once():
    policy = Gated()
    with AsyncPolicy(policy, CLOCK) as worker:
        assert isinstance(worker, AsyncDecider)
        assert not isinstance(policy, AsyncDecider)
        worker.submit(np.array([1.0]), 0.5)
        policy.safety_filter.release()
        answer = worker.poll(until())
        assert answer is not None
        assert answer.decision is not None
        assert (answer.observed, answer.decision.action, answer.number) == (0.5, [1.0], 1)
        assert worker.poll(CLOCK.now()) is None


def test_while_it_decides_the_caller_goes_on_and_the_newest_observation_waits():
    policy = Gated()
    with AsyncPolicy(policy, CLOCK) as worker:
        worker.submit(np.array([1.0]), 1.0)
        assert policy.entered.acquire(timeout=LONG)
        assert worker.poll(CLOCK.now() + 0.001) is None
        worker.submit(np.array([2.0]), 2.0)
        worker.submit(np.array([3.0]), 3.0)
        policy.safety_filter.release(2)
        answers = [worker.poll(until())]
        while answers[-1] is not None and answers[-1].observed < 3.0:
            answers.append(worker.poll(until()))
    assert policy.seen == [1.0, 3.0]
    assert answers[-1] is not None
    assert answers[-1].number == 2


def test_an_answer_nobody_took_is_replaced_and_its_number_tells():
    policy = Gated()
    with AsyncPolicy(policy, CLOCK) as worker:
        for value in (1.0, 2.0, 3.0):
            worker.submit(np.array([value]), value)
            assert policy.entered.acquire(timeout=LONG)  # of the third: the answer to the second lies there
            if value < 3.0:
                policy.safety_filter.release()
        answer = worker.poll(until())
        policy.safety_filter.release()
    assert answer is not None
    assert (answer.observed, answer.number) == (2.0, 2)


def test_the_observation_is_copied_a_driver_may_fill_its_array_again():
    policy, mine = Gated(), np.array([1.0])
    with AsyncPolicy(policy, CLOCK) as worker:
        worker.submit(mine, 1.0)
        mine[:] = 9.0
        policy.safety_filter.release()
        answer = worker.poll(until())
    assert answer is not None
    assert answer.observation == 1.0


def test_no_plan_is_an_answer():
    policy = Gated(NoPlanError("none of 64 candidates is finite"))
    with AsyncPolicy(policy, CLOCK) as worker:
        for _ in range(2):  # and the thread goes on
            worker.submit(np.array([1.0]), 1.0)
            policy.safety_filter.release()
            answer = worker.poll(until())
            assert answer is not None
            assert answer.decision is None
            assert "64 candidates" in str(answer.no_plan)


def test_what_breaks_there_is_raised_here():
    policy = Gated(RuntimeError("no network"))
    with AsyncPolicy(policy, CLOCK) as worker:
        worker.submit(np.array([1.0]), 1.0)
        policy.safety_filter.release()
        with pytest.raises(RuntimeError, match="no network"):
            worker.poll(until())


def test_warm_up_decides_and_throws_away():
    policy = Gated()
    policy.safety_filter.release(3)
    with AsyncPolicy(policy, CLOCK) as worker:
        assert worker.warm_up(np.array([1.0]), 3).number == 3
        assert worker.poll(CLOCK.now()) is None


def test_a_warm_up_without_a_plan_says_so():
    policy = Gated(NoPlanError("is the checkpoint trained?"))
    policy.safety_filter.release()
    with AsyncPolicy(policy, CLOCK) as worker, pytest.raises(NoPlanError, match="trained"):
        worker.warm_up(np.array([1.0]))


class Away:
    """Gives no answer to so many calls, as a server that is late."""

    def __init__(self, calls: int) -> None:
        self.away, self.asked = calls, 0

    def decide(self, observation):
        self.asked += 1
        if self.asked <= self.away:
            raise NoAnswerError("no answer within 0.1 s")
        return Decision(observation, np.zeros((4, 2)), np.zeros((1, 4, 2)), np.zeros(1), {})


def test_a_warm_up_asks_again_where_a_servers_answer_is_late():
    policy = Away(3)
    with AsyncPolicy(policy, CLOCK) as worker:
        assert worker.warm_up(np.array([1.0]), 2).decision is not None
    assert policy.asked == 5


def test_a_warm_up_gives_up_on_a_server_that_stays_away():
    policy = Away(1000)
    with AsyncPolicy(policy, CLOCK) as worker, pytest.raises(NoAnswerError, match=r"within 0\.1 s"):
        worker.warm_up(np.array([1.0]), 2)
    assert policy.asked == AWAY


def test_leaving_ends_the_thread():
    worker = AsyncPolicy(Gated(), CLOCK)
    with worker:
        pass
    assert not worker._thread.is_alive()


def test_one_that_does_not_decide_says_so_instead_of_keeping_silent():
    worker = AsyncPolicy(Gated(), CLOCK)
    with pytest.raises(RuntimeError, match="use the AsyncPolicy in its with-block"):
        worker.submit(np.zeros(1), 0.0)
    with worker, pytest.raises(ValueError, match="calls is 0, expected at least 1"):
        worker.warm_up(np.zeros(1), 0)
    with pytest.raises(RuntimeError, match="use the AsyncPolicy in its with-block"):
        worker.submit(np.zeros(1), 0.0)
    with pytest.raises(RuntimeError, match="make another for the next"), worker:
        pass


def test_what_is_no_decision_ends_in_the_callers_thread():
    class Silent:
        def decide(self, observation):
            return None

    with AsyncPolicy(Silent(), CLOCK) as worker:  # type: ignore[arg-type]
        worker.submit(np.zeros(1), 0.0)
        with pytest.raises(TypeError, match=r"Silent.decide gave NoneType, expected a Decision"):
            worker.poll(until())
