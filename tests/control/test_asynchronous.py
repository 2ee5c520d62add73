"""Asynchronous inference: what is late, dropped and sent, with time under the test's control."""

import math
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch

from late_robot import DT, ROW, TIMEOUT, TIMEOUTS, Clock, Recorder, Stamped, ages, drive, once
from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import REASONS, EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision, NoPlanError
from onestride.tasks import CONTROL_SPECS, TASKS


def test_quick_decisions_are_each_sent_in_their_tick():
    log, robot = drive(repeat(0.002))
    assert (log.ticks, log.executed, log.overruns, log.starved, log.dropped) == (100, 100, 0, 0, 0)
    np.testing.assert_allclose([t for t, _ in robot.sent], DT * np.arange(100) + 0.002, atol=1e-9)
    np.testing.assert_allclose(ages(robot, log), 0.002, atol=1e-9)
    np.testing.assert_allclose(log.tick_jitter.rows[:, 1], 0.0, atol=1e-9)
    assert not log.late


def test_a_stalled_decision_is_bridged_by_the_last_plan_at_every_deadline():
    """Tick 10's takes 47 ms."""
    log, robot = drive(once(10, 0.047))
    # ticks 10 .. 13 get nothing; 14's observation waits until 147 ms and is answered at 149 ms, in time
    assert (log.ticks, log.overruns, log.executed) == (100, 4, 96)
    assert log.late == {"plan": 4}
    assert (log.starved, log.dropped) == (0, 0)
    late = robot.sent[10:14]
    np.testing.assert_allclose([t for t, _ in late], [0.109, 0.119, 0.129, 0.139], atol=1e-9)
    np.testing.assert_allclose([c[0] for _, c in late], 0.09, atol=1e-6)  # the last plan is tick 9's
    np.testing.assert_allclose([c[1] for _, c in late], 0.0, atol=1e-6)  # its row 1 is from 140 ms on
    np.testing.assert_allclose(np.diff([t for t, _ in robot.sent[15:]]), DT, atol=1e-9)  # and no burst after


def test_a_long_stall_goes_through_the_fallback_and_its_decision_is_dropped():
    """Tick 10 takes 200 ms: tick 9's plan is good until 170 ms, then the command fades until it holds."""
    log, robot = drive(once(10, 0.2))
    # at 110 .. 170 ms the plan (7), at 180 .. 300 ms hold (13): 20 ticks, 10 .. 29; at 300 ms tick 30 is answered
    assert (log.overruns, log.late, log.dropped) == (20, {"plan": 7, "hold": 13}, 1)
    assert log.executed == 80
    hold = np.array([c[0] for t, c in robot.sent if 0.175 < t < 0.3005 and c[0] < 0.2])
    drive_then = 0.09 * np.array([0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(hold[:4], drive_then, atol=1e-6)
    np.testing.assert_allclose(hold[4:13], 0.0, atol=1e-6)
    assert ages(robot, log).max() <= TIMEOUTS.max_observation_age + 1e-9


def test_without_end_the_robot_is_stopped_for_good():
    log, robot = drive(once(10, 10.0))
    assert log.outcome == "stopped: no decision for 0.305 s"
    assert log.late == {"plan": 7, "hold": 22, "stop": 1}
    assert robot.sent[-1][0] == pytest.approx(0.389)
    assert log.duration == pytest.approx(0.4)


def test_a_first_decision_that_never_comes_moves_nothing():
    log, robot = drive(repeat(10.0))
    assert robot.sent == []
    assert log.late == {"standing": 30, "stop": 1}
    assert log.outcome.startswith("stopped")


def test_decisions_always_one_period_late_keep_the_robot_on_their_plans():
    """Each takes a period and a half: none is in time, and the fallback follows the newest of them at every tick."""
    log, robot = drive(repeat(0.015))
    assert log.executed == 0
    assert log.overruns == log.ticks == 100
    assert log.late == {"standing": 1, "plan": 99}
    assert log.dropped == 0
    assert ages(robot, log).max() <= 0.039 + 1e-9


@pytest.mark.parametrize("length", [0.03, 0.1, 0.2])
@pytest.mark.parametrize("when", [0.3 + 0.001, 0.3 + 0.006])
def test_a_pause_of_the_whole_process_costs_its_ticks_and_nothing_stale_is_sent(when, length):
    """Stopped while waiting for tick 30's decision, or, after it was sent, for tick 31."""
    deciding = when < 0.302
    log, robot = drive(repeat(0.002), pauses={when: length})
    woke = max(when + length, 0.302 if deciding else 0.31)
    inside = math.floor(woke / DT + 1e-9)  # the tick it woke up in
    missed = inside - 30 if deciding else inside - 31
    assert log.ticks == 100
    assert log.overruns == missed
    # the fallback acts on waking for the tick it waited in: never a burst
    assert log.executed == 100 - missed
    assert log.filled == deciding
    assert log.starved == missed
    after = [t for t, _ in robot.sent if t >= when]
    if deciding:
        assert after.pop(0) == pytest.approx(woke)
    assert after[0] == pytest.approx(woke + 0.002)
    np.testing.assert_allclose(after[1:], DT * np.arange(inside + 1, 100) + 0.002, atol=1e-9)
    assert ages(robot, log).max() <= TIMEOUTS.max_observation_age + 1e-9
    # the decision in hand was made before the pause: dropped when it has expired by now, else its plan is what is left
    expired = deciding and woke - 0.3 > TIMEOUTS.max_observation_age
    assert log.dropped == int(expired)
    assert log.tick_jitter.rows[:, 1].max() == pytest.approx(woke - 0.31)


def test_a_pause_across_the_end_counts_its_ticks():
    log, _ = drive(repeat(0.002), pauses={0.951: 1.0}, timeout=1.0)
    assert (log.ticks, log.overruns, log.executed) == (100, 5, 95)


def test_a_pause_beyond_the_timeouts_ends_the_episode():
    log, robot = drive(repeat(0.002), pauses={0.301: 0.5})
    assert log.outcome == "stopped: no decision for 0.305 s"
    assert max(t for t, _ in robot.sent) < 0.301
    assert log.overruns == 50  # tick 30's own and the 49 that never began; tick 80 began, and ended the episode


@pytest.mark.parametrize(("action", "reason"), [(np.nan, "not finite"), (1.5, "out of the workspace")])
def test_bad_commands_are_never_sent_nor_the_rest_of_their_plans(action, reason):
    log, robot = drive(repeat(0.002), policy=Stamped(lambda n: np.full(6, action) if n in (31, 32) else None))
    assert log.refused == {f"command refused: {reason}": 2}
    assert (log.overruns, log.executed, log.late) == (0, 98, {"plan": 2})
    bridged = [c[0] for t, c in robot.sent if min(abs(t - 0.309), abs(t - 0.319)) < 1e-9]
    np.testing.assert_allclose(bridged, 0.29, atol=1e-6)  # the plan before them


def test_no_plan_is_counted_and_bridged():
    class Lost(Stamped):
        def decide(self, observation: np.ndarray) -> Decision:
            decision = super().decide(observation)
            if self.count == 31:
                raise NoPlanError("none of 64 candidates is finite")
            return decision

    log, _ = drive(repeat(0.002), policy=Lost())
    assert log.refused == {"no plan: none of 64 candidates is finite": 1}
    assert (log.overruns, log.executed, log.late) == (0, 99, {"plan": 1})


def test_late_rows_out_of_limits_are_not_sent_and_the_robot_slows_down():
    class Wild(Stamped):
        def decide(self, observation: np.ndarray) -> Decision:
            decision = super().decide(observation)
            decision.plan[:, 19] = np.nan  # what command() clamps, it does not mend
            return decision

    log, robot = drive(once(10, 0.035), policy=Wild())
    assert log.refused == {"late command refused: not finite": 3}
    assert log.late == {"hold": 3}
    assert (log.filled, log.starved) == (3, 0)
    sent = [command[0] for _, command in robot.sent[10:13]]  # what came last fades
    assert robot.sent[9][1][0] > sent[0] > sent[1] > sent[2] >= 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nothing_stale_nothing_out_of_limits_and_every_tick_accounted_for(seed):
    """Random costs, pauses, broken observations and spoiled commands; the recorder refuses bad commands itself."""
    rng = np.random.default_rng(seed)
    costs = iter(np.where(rng.random(2000) < 0.1, rng.uniform(0, 0.2, 2000), rng.uniform(0, 0.012, 2000)))
    pauses = {float(t): float(rng.uniform(0, 0.15)) for t in rng.uniform(0, 1, 3)}
    bad = rng.random(1000) < 0.05
    policy = Stamped(lambda n: np.full(6, np.nan) if rng.random() < 0.03 else None)
    log, robot = drive(costs, pauses=pauses, policy=policy, broken=lambda t: bool(bad[int(t / DT) % 1000]))
    assert ages(robot, log).max() <= TIMEOUTS.max_observation_age + 1e-9
    of_plans = {round(at, 9) for at in log.command_age.rows[:, 0]}
    for at, command in robot.sent:
        if round(at, 9) in of_plans:  # others deceleration_time
            assert at - command[0] <= TIMEOUTS.max_observation_age + 1e-6  # by what the plan itself says
    assert log.executed + log.filled == len(robot.sent)
    if log.outcome == "timeout":
        assert log.ticks == 100
        refused = sum(n for reason, n in log.refused.items() if reason.startswith("observation"))
        answered = log.executed + sum(n for r, n in log.refused.items() if r.startswith(("command", "no plan")))
        assert log.ticks <= log.overruns + refused + answered  # a late answer may be refused as well
    times = np.array([t for t, _ in robot.sent])
    slots = np.floor(times / DT + 1e-9)
    assert (
        np.bincount(slots.astype(int)).max() <= 3
    )  # the fallback's for a tick that ended late, for this one, and its own


class Slow:
    """Limits that take their time to look: the process stands still between the decision's check and its write."""

    def __init__(self, limits, clock, when, length) -> None:
        self.limits, self.clock, self.when, self.length = limits, clock, when, length
        self.max_step = limits.max_step

    def violation(self, command, observation):
        if self.clock.now() >= self.when:
            self.clock.sleep_until(self.clock.now() + self.length)
            self.when = math.inf
        return self.limits.violation(command, observation)


@pytest.mark.parametrize("late", [False, True])
def test_a_pause_just_before_the_write_is_seen(late):
    clock = Clock({})
    robot, control = Recorder(clock), replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=ROW)
    limits: Any = Slow(control.limits, clock, 0.109 if late else 0.1, 0.2)
    asynchronous = SimulatedLatency(Stamped(), clock, once(10, 0.047) if late else repeat(0.002))
    seen: list[float] = []
    log = run_episode(
        robot, clock, asynchronous, replace(control, limits=limits),
        timeout=TIMEOUT, period=DT, fallback_timeouts=TIMEOUTS,
        on_decision=lambda observation, decision: seen.append(observation[0]),
    )  # fmt: skip
    assert ages(robot, log).max() <= TIMEOUTS.max_observation_age + 1e-9
    assert log.refused == ({"late command refused: expired": 1} if late else {})
    assert log.ticks == 100
    assert len(seen) == log.decision_times.count
    assert not [t for t, _ in robot.sent if 0.1 < t < 0.3]


def test_decisions_that_come_fresh_but_are_never_followed_stop_the_robot():
    """Each takes two periods of 50 ms: by the time that one could be followed it has expired."""
    clock = Clock({})
    robot, control = Recorder(clock), replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=ROW, commands=None)
    log = run_episode(
        robot, clock, SimulatedLatency(Stamped(), clock, once(0, 0.002, 0.06)), control, timeout=5.0, period=0.05
    )
    assert log.outcome == "stopped: no decision for 0.5 s"
    assert log.duration < 0.6


def test_what_a_policy_refuses_is_held_and_the_next_tick_tries_again():
    class Refuses(Stamped):
        def decide(self, observation: np.ndarray) -> Decision:
            decision = super().decide(observation)
            if self.count == 31:
                raise ObservationError("too large, in float32")
            return decision

    log, _ = drive(repeat(0.002), policy=Refuses())
    assert log.refused == {"observation refused: too large, in float32": 1}
    assert (log.overruns, log.executed, log.late) == (0, 99, {"plan": 1})


def test_reasons_are_counted_together_where_there_are_too_many():
    log = EpisodeLog(5)
    for i in range(REASONS + 50):
        log.refuse(f"the goal [{i}] is outside")
    log.refuse("the goal [3] is outside")
    assert len(log.refused) == REASONS + 1
    assert (log.refused["other reasons"], log.refused["the goal [3] is outside"]) == (50, 2)


def test_buffers_do_not_grow_tick_by_tick():
    log, _ = drive(repeat(0.002), timeout=50 * DT)
    assert log.capacity == 52
    for ring in (log.decision_times, log.tick_jitter, log.command_age):
        assert ring._rows.shape == (52, 2)


def test_what_is_left_of_the_episode_before_is_ignored():
    clock = Clock({})
    asynchronous = SimulatedLatency(Stamped(), clock, repeat(0.002))
    asynchronous.submit(np.zeros(17), -1.0)
    robot, control = Recorder(clock), CONTROL_SPECS["halfcheetah-v5"]()
    log = run_episode(
        robot, clock, asynchronous, control, timeout=10 * DT - DT / 2, period=DT, fallback_timeouts=TIMEOUTS
    )
    assert (log.executed, log.dropped, log.replaced, log.decision_times.count) == (10, 0, 0, 10)


def test_an_observation_age_shorter_than_the_period_is_refused():
    with pytest.raises(ValueError, match="allow at least one period"):
        drive(repeat(0.002), fallback_timeouts=FallbackTimeouts(0.005, 0.1, 0.5))


def test_a_task_without_rows_or_rest_still_holds_and_stops():
    clock = Clock({})
    robot = Recorder(clock)
    control = replace(CONTROL_SPECS["halfcheetah-v5"](), commands=None, rest=None)
    asynchronous = SimulatedLatency(Stamped(), clock, once(10, 10.0))
    log = run_episode(robot, clock, asynchronous, control, timeout=TIMEOUT, period=DT, fallback_timeouts=TIMEOUTS)
    assert log.late == {"hold": 29, "stop": 1}
    assert len(robot.sent) == log.executed == 10


def test_the_tasks_dwell_is_time_not_ticks():
    """On the arm, five times the rate asks for five times the ticks within the goal's radius."""
    control, clock = CONTROL_SPECS["kinova"](), Clock({})

    class AtGoal(Recorder):
        def read(self) -> np.ndarray:
            here = np.array([0.4, 0.1, 0.2])
            return np.concatenate((here, np.zeros(3), here, np.zeros(32)))

    class Stay:
        def decide(self, observation: np.ndarray) -> Decision:
            return Decision(observation[:3], np.zeros((32, 9), np.float32), np.zeros((1, 32, 9)), np.zeros(1), {})

    log = run_episode(
        AtGoal(clock), clock, SimulatedLatency(Stay(), clock, repeat(0.002)), control, timeout=9.0, period=DT
    )
    assert log.success
    assert log.duration == pytest.approx(control.dwell_steps * control.control_dt)


@pytest.mark.parametrize("name", ["kinova", "hopper-v5"])
def test_a_plans_first_row_is_the_tasks_command(name, arm_scenes):
    task = TASKS[name]()
    control = task.control
    rng = torch.Generator().manual_seed(0)
    first = task.first_observation(arm_scenes[0] if name == "kinova" else 0)
    given = task.encode(torch.from_numpy(first).float()[None])
    plans = torch.randn(1, control.horizon, control.transition_dim, generator=rng)
    plans[:, 0, : control.state_dim] = given.values
    assert control.commands is not None
    hold = control.hold(first)
    assert hold is not None
    rows = control.commands(plans[0].numpy(), first)
    assert rows.shape == (control.horizon, control.action_dim)
    np.testing.assert_allclose(rows[0], task.command(plans, given.frame)[0], atol=1e-6)
    assert control.limits.violation(hold, first) is None


def test_the_arms_later_rows_are_the_targets_its_windows_were_made_of(arm_scenes):
    """plan_window, then commands: back to the recorded position targets, row by row."""
    task = TASKS["kinova"]()
    control = task.control
    scene = arm_scenes[0]
    observations = np.tile(task.first_observation(scene), (control.horizon, 1))
    observations[:, :3] = np.linspace(scene.start, scene.goal, control.horizon + 1)[:-1]
    actions = np.linspace(scene.start, scene.goal, control.horizon + 1)[1:]
    plans, _ = task.plan_window(torch.from_numpy(observations)[None], torch.from_numpy(actions)[None])
    assert control.commands is not None
    np.testing.assert_allclose(control.commands(plans[0].numpy(), observations[0]), actions, atol=1e-6)
