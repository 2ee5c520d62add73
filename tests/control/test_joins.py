"""How plans join: a row of each decision is marked, so that every command says which plan and which row it is of."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
import pytest

from onestride.control.async_policy import AsyncPolicy
from onestride.control.chunks import Chunking
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision

DT, N, H, LONGEST = 0.1, 4, 16, 8
SPEC = replace(
    plain_control(name="line", observation_dim=1, horizon=H, control_dt=DT, low=[-1e9], high=[1e9]),
    n_action_steps=N,
    frozen_after=np.inf,
)
FOLLOWED = FallbackTimeouts(2 * H * DT, 2 * DT, 3 * H * DT)


class Line:
    """Its observation is the clock's time in periods; it notes what it is told, and when."""

    def __init__(self, clock):
        self.clock, self.told = clock, []

    def read(self):
        return np.array([self.clock.now() / DT])

    def write(self, command):
        self.told.append((math.floor(self.clock.now() / DT + 1e-6), float(command[0])))

    def stop(self):
        pass

    def fault(self):
        return None


class Walker:
    """Plans that walk 1 a row from where they start: after what is committed, or anywhere from 0 to 1000."""

    longest_prefix = LONGEST

    def __init__(self):
        self.rng, self.asked = np.random.default_rng(0), []

    def decide(self, observation, *, committed=None):
        self.asked.append((round(float(observation[0])), None if committed is None else committed[:, 0].tolist()))
        start, rows = self.rng.uniform(0, 1000), np.arange(H, dtype=float)
        plan = np.stack((np.zeros(H), start + rows), 1)
        if committed is not None:
            n = len(committed)
            plan[:n, 1] = -1.0  # what is committed is what is sent, whatever the plan says
            plan[n:, 1] = committed[-1, 0] + 1 + rows[: H - n]
        return Decision(plan[0, 1:], plan, plan[None], np.zeros(1), {})


def episode(costs, chunking, periods=60, spec=SPEC, policy=None):
    clock, policy = ChargedClock(), policy or Walker()
    robot = Line(clock)
    late = SimulatedLatency(policy, clock, costs)
    log = run_episode(
        robot, clock, late, spec, timeout=periods * DT, chunking=chunking, fallback_timeouts=FOLLOWED
    )  # fmt: skip
    return robot.told, policy, log


def steps(told):
    """Differences of one command from the one before."""
    return np.diff([value for _, value in told])


def rows_of(latency):
    """A decision's duration that is over within this many rows [s]."""
    return max(latency - 0.01, 0.0) * DT


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("latency", range(LONGEST + 1))
def test_with_a_prefix_there_is_no_jump_and_no_idle_tick(latency, positions):
    spec = replace(SPEC, position_commands=positions, rest=None)
    told, policy, log = episode(repeat(rows_of(latency)), Chunking("prefix", latency), spec=spec)
    begun = int(positions)  # a robot that stood still until late in the first tick is moved for the rest of it alone
    np.testing.assert_allclose(steps(told)[begun:], 1.0, atol=1e-9)
    assert [at for at, _ in told] == list(
        range(latency if latency > 1 else 0, 60)
    )  # one in every period from the first on
    assert log.idle == sum(log.late[level] for level in ("plan", "hold", "stop")) == 0
    (_, nothing), *later = policy.asked
    assert nothing is None
    assert len(later) > 3
    sent = dict(told)
    for k, rows in later:
        assert len(rows) == max(latency, 1)
        there = [sent[k + j] for j in range(len(rows)) if k + j in sent]
        np.testing.assert_allclose(rows[begun : len(there)], there[begun:], atol=1e-9)  # what was promised was sent


def test_switching_jumps_where_plans_differ_and_an_ensemble_jumps_less():
    jumps = {}
    for join in ("switch", "ensemble", "prefix"):
        told, _, log = episode(repeat(rows_of(2)), Chunking(join, 2))
        assert log.idle == 0
        jumps[join] = np.abs(steps(told) - 1.0).max()
    assert jumps["prefix"] < 1e-9 < 1.0 < jumps["ensemble"] < jumps["switch"]


def test_an_ensemble_sends_weighted_means_the_oldest_plan_first():
    """Decisions of less than a period: the plan about period k begins at 10 k and stays there."""

    class Steps(Walker):
        def decide(self, observation, *, committed=None):
            plan = np.full((H, 2), 10 * round(float(observation[0])), float)
            return Decision(plan[0, 1:], plan, plan[None], np.zeros(1), {})

    decay = 0.3
    told, _, _ = episode(repeat(0.5 * DT), Chunking("ensemble", 1, decay), policy=Steps(), periods=30)
    sent = dict(told)
    for k in (5, 12, 20, 29):
        plans = np.arange(max(0, k - H + 1), k)  # that have a row for period k; the one about k comes too late for it
        weights = np.exp(-decay * np.arange(len(plans)))
        np.testing.assert_allclose(sent[k], 10 * (weights * plans).sum() / weights.sum())


def test_an_answer_after_the_bound_is_switched_to_and_the_next_joins_again():
    """The third answer takes 5 rows in place of 2: its plan jumps by the rows that were sent beyond the prefix."""
    costs = chain([rows_of(2)] * 2, [rows_of(5)], repeat(rows_of(2)))
    told, policy, log = episode(costs, Chunking("prefix", 2))
    sizes = steps(told)
    assert log.idle == 0
    assert [at for at, _ in told] == list(range(2, 60))
    np.testing.assert_allclose(sizes, 1.0, atol=1e-9)  # the walker goes on from the same row, late or not

    class Jumper(Walker):
        def decide(self, observation, *, committed=None):
            made = super().decide(observation, committed=committed)
            made.plan[len(committed if committed is not None else ()) :, 1] += 1.0 * len(self.asked)
            return made

    costs = chain([rows_of(2)] * 2, [rows_of(5)], repeat(rows_of(2)))
    told, policy, _ = episode(costs, Chunking("prefix", 2), policy=Jumper())
    k, _ = policy.asked[2]
    sent = dict(told)
    assert sent[k + 2] - sent[k + 1] == pytest.approx(1.0)  # beyond its prefix the plan before is followed
    assert sent[k + 5] - sent[k + 4] == pytest.approx(1.0 + 3.0)  # then it is switched to, at its own row 5


def test_measured_latency_is_bounded_by_the_prefix():
    told, policy, _ = episode(repeat(rows_of(3)), Chunking("prefix", None))
    assert {len(rows) for _, rows in policy.asked[2:]} == {3}
    np.testing.assert_allclose(steps(told)[5:], 1.0, atol=1e-9)
    _, policy, _ = episode(repeat(rows_of(LONGEST + 2)), Chunking("prefix", None), periods=100)
    assert max(len(rows) for _, rows in policy.asked[1:]) <= LONGEST


def test_by_default_plans_are_switched_to_as_they_always_were():
    told, _, log = episode(repeat(0.3 * DT), None)
    assert [at for at, _ in told] == list(range(60))
    assert log.filled == log.idle == 0
    assert (np.abs(steps(told) - 1.0) > 1e-6).sum() > 10  # a plan is carried out for N rows


def test_idle_ticks_are_counted_from_the_first_command_on():
    """Synchronous inference of 2.9 rows: between two chunks of 4 rows the robot waits."""
    clock = ChargedClock()
    clock.charge = lambda seconds: None

    class Slow(Walker):
        def decide(self, observation, *, committed=None):
            clock.sleep_until(clock.now() + 2.9 * DT)
            return super().decide(observation)

    robot = Line(clock)
    log = run_episode(robot, clock, Slow(), SPEC, timeout=6.0)
    periods = {at for at, _ in robot.told}
    assert log.idle == len(set(range(min(periods), 60)) - periods) > 10


def test_a_policy_in_its_thread_is_told_what_is_committed():
    policy, clock = Walker(), RealClock()
    with AsyncPolicy(policy, clock) as beside:
        assert beside.longest_prefix == LONGEST
        beside.submit(np.array([3.0]), 0.0, np.array([[7.0], [8.0]]))
        answer = beside.poll(clock.now() + 5.0)
    assert policy.asked == [(3, [7.0, 8.0])]
    assert answer.decision.plan[2, 1] == 9.0


class Deaf:
    """A policy that knows no prefix."""

    def decide(self, observation):
        raise AssertionError(observation)


@pytest.mark.parametrize(
    ("chunking", "spec", "policy", "said"),
    [
        (Chunking("prefix", 2), SPEC, Deaf(), r"the longest prefix that the planner has learnt is 0; .*--prefix 2"),
        (Chunking("prefix", 9), SPEC, Walker(), "is 9 rows, and the longest prefix that the planner has learnt is 8"),
        (Chunking("ensemble"), replace(SPEC, n_action_steps=1), Walker(), "n_action_steps is 1, expected at least 2"),
    ],
)
def test_what_cannot_be_joined_is_said_before_the_robot_moves(chunking, spec, policy, said):
    with pytest.raises(ValueError, match=said):
        episode(repeat(0.0), chunking, spec=spec, policy=policy)


def test_a_join_needs_asynchronous_inference_and_a_known_name():
    clock = ChargedClock()
    with pytest.raises(ValueError, match="with asynchronous inference alone"):
        run_episode(Line(clock), clock, Walker(), SPEC, timeout=1.0, chunking=Chunking("ensemble"))
    with pytest.raises(ValueError, match="there are switch, ensemble, prefix"):
        Chunking("blend")
    with pytest.raises(ValueError, match="must not be negative"):
        Chunking("switch", -1)
