"""A tap tells a viewer of the loop, does what it wishes, and changes nothing else."""

import time

import numpy as np
import pytest

from looped import CONTROL, Answering, Drifting, tapped
from onestride.control.async_policy import AsyncPolicy
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision
from onestride.viewer.records import FAULTS
from onestride.viewer.state import LoopState
from onestride.viewer.tap import Tap


def driven(tap=None, timeout=0.2, robot=None):
    """Twelve ticks in simulated time."""
    robot, log = robot or Drifting(), EpisodeLog.lasting(timeout, CONTROL.control_dt)
    policy = Answering() if tap is None else tap.decider(Answering())
    seen = robot if tap is None else tap.begin(robot, log)
    on_decision = None if tap is None else tap.on_decision
    run_episode(seen, ChargedClock(), policy, CONTROL, timeout=timeout, on_decision=on_decision, log=log)
    return robot, log


def test_the_robot_gets_the_same_commands_with_and_without():
    tap, _ = tapped()
    (bare, bare_log), (watched, log) = driven(), driven(tap)
    assert len(bare.sent) > 5
    assert np.array_equal(bare.sent, watched.sent)
    assert (bare.readings, bare_log.outcome) == (watched.readings, log.outcome)
    assert watched.stops == bare.stops == 1


def test_every_reading_and_decision_is_told():
    tap, link = tapped()
    robot, log = driven(tap)
    ticks, _ = link.ticks.since(0)
    assert ticks["observation"][:, 0].tolist() == list(range(1, robot.readings + 1))
    assert ticks["ticks"][-1] == log.ticks
    assert np.allclose(ticks["command"][-1], robot.sent[-1])
    decision = link.decisions.newest()
    assert link.decisions.count == len(log.decisions)
    assert (decision["candidates"], decision["rows"]) == (5, CONTROL.horizon)
    assert np.array_equal(decision["plan"], decision["plans"][3])
    assert not decision["plan"][CONTROL.horizon :].any()
    assert decision["took"] == pytest.approx(0.001)


def test_of_long_plans_every_second_row_is_sent_and_of_many_candidates_the_first():
    control = plain_control(name="t", observation_dim=1, horizon=128, control_dt=0.1, low=[-1], high=[1])
    tap, link = tapped(control)
    plans = np.arange(70 * 128 * 2, dtype=np.float32).reshape(70, 128, 2)
    tap.on_decision(np.zeros(1), Decision(np.zeros(1), plans[69], plans, np.zeros(70), {"total": 0.1}))
    told = link.decisions.newest()
    assert (told["candidates"], told["rows"]) == (64, 64)
    assert np.array_equal(told["plans"], plans[:64, ::2])
    assert np.array_equal(told["plan"], plans[69, ::2])


def test_a_link_of_another_loop_is_refused_before_anything_moves():
    other = plain_control(name="other", observation_dim=4, horizon=8, control_dt=0.1, low=[-1], high=[1])
    with pytest.raises(ValueError, match="not those of 'other', whose observations have 4"):
        Tap(tapped()[1], other)
    shorter = plain_control(name="toy", observation_dim=3, horizon=2, control_dt=0.1, low=[-1, -1], high=[1, 1])
    Tap(tapped()[1], shorter)  # a policy's plans may be shorter than its task's


def test_what_is_dragged_is_placed_at_the_next_reading_and_forgotten_at_the_next_episode():
    tap, link = tapped()
    state, robot = LoopState(link), Drifting()
    seen = tap.begin(robot, EpisodeLog(4))
    seen.read()
    assert robot.placed == {}
    state.move(1, np.array([1.0, 2.0, 3.0]))
    assert robot.placed == {}
    seen.read()
    assert robot.placed == {"obstacle0": [1.0, 2.0, 3.0]}
    state.move(1, np.array([1.0, 2.0, -3.0]))  # refused: it stays
    seen.read()
    assert robot.placed == {"obstacle0": [1.0, 2.0, 3.0]}
    state.move(0, np.ones(3))
    other = Drifting()
    tap.begin(other, EpisodeLog(4)).read()
    assert other.placed == {}


def test_a_viewer_can_only_look_at_a_robot():
    tap, link = tapped(where=None)
    state, robot = LoopState(link), Drifting()
    seen = tap.begin(robot, EpisodeLog(4))
    state.move(0, np.ones(3))
    state.inject(FAULTS.index("sensor gives NaN"), 60.0)
    state.restart(3)
    assert np.isfinite(seen.read()).all()
    assert robot.placed == {}
    assert seen.fault() is None


@pytest.mark.parametrize("fault", FAULTS[1:])
def test_a_fault_lasts_as_long_as_it_was_asked_to(fault):
    tap, link = tapped()
    state, policy = LoopState(link), tap.decider(Answering())
    seen = tap.begin(Drifting(), EpisodeLog(4))
    first, began = seen.read(), time.perf_counter()
    state.inject(FAULTS.index(fault), 0.05)
    faulty = seen.read()
    if fault == "sensor gives NaN":
        assert np.isnan(faulty).all()
    elif fault == "sensor repeats itself":
        assert np.array_equal(faulty, first)
    elif fault == "sensor hangs":
        assert time.perf_counter() - began >= 0.05
        assert np.isfinite(faulty).all()
    else:
        policy.decide(faulty)
        assert time.perf_counter() - began >= 0.05
    time.sleep(max(0.06 - (time.perf_counter() - began), 0.0))
    again = seen.read()
    assert np.isfinite(again).all()
    assert not np.array_equal(again, first)


def test_a_nan_is_refused_by_the_loop_and_the_viewer_hears_why():
    tap, link = tapped()
    state, robot, log = LoopState(link), Drifting(), EpisodeLog.lasting(0.3, CONTROL.control_dt)
    seen, clock = tap.begin(robot, log), RealClock()
    state.inject(FAULTS.index("sensor gives NaN"), 0.1)
    with AsyncPolicy(tap.decider(Answering()), clock) as policy:
        run_episode(seen, clock, policy, CONTROL, timeout=0.3, on_decision=tap.on_decision, log=log)
    state.update()
    assert any("observation" in reason for reason in log.refused)
    assert state.reason in {reason[:160] for reason in log.refused}
    assert np.isnan(link.ticks.since(0)[0]["observation"][0]).all()


def test_a_viewer_ends_an_episode():
    tap, link = tapped()
    state = LoopState(link)
    seen = tap.begin(Drifting(), EpisodeLog(4))
    assert seen.fault() is None
    state.restart(7)
    assert seen.fault() == "ended by the viewer"
    assert tap.asked_for == (False, True, 7)
    assert tap.begin(Drifting(), EpisodeLog(4)).fault() is None
    state.quit()
    assert tap.asked_for == (True, False, 7)


def test_an_observation_of_another_shape_does_not_end_the_loop():
    tap, link = tapped()
    robot = Drifting()
    seen = tap.begin(robot, EpisodeLog(4))
    robot.read = lambda: np.zeros((2, 2))
    assert seen.read().shape == (2, 2)
    assert np.isnan(link.ticks.newest()["observation"]).all()
