"""What a viewer knows of a loop."""

from collections import deque

import numpy as np
import pytest
import torch

from looped import CONTROL, Answering, Drifting, tapped
from onestride.control.log import EpisodeLog
from onestride.tasks import TASKS
from onestride.viewer.panel import table
from onestride.viewer.state import BINS, WINDOW, LoopState, binned, candidate_paths


def ticked(*levels):
    """A loop whose ticks ended at these levels, None for a decision of the tick's own."""
    tap, link = tapped()
    log = EpisodeLog(len(levels) + 1)
    robot = tap.begin(Drifting(), log)
    robot.read()
    for level in levels:
        log.ticks += 1
        if level is None:
            log.executed += 1
        else:
            log.late[level] += 1
        robot.read()
    return tap, link, log


def test_levels_are_those_of_the_ticks_between_two_readings():
    _, link, _ = ticked(None, "plan", "plan", None, "hold", "stop")
    state = LoopState(link)
    state.update()
    assert [level for _, level in state.levels] == [0, 1, 1, 0, 2, 3]


def test_nothing_is_read_twice_and_a_new_episode_has_no_level_of_the_last():
    tap, link, _ = ticked("plan")
    state = LoopState(link)
    state.update()
    state.update()
    assert len(state.levels) == 1
    tap.begin(Drifting(), EpisodeLog(3)).read()
    state.update()
    assert len(state.levels) == 1


def test_a_bin_has_the_largest_of_its_values_and_old_ones_are_left_away():
    now = 100.0
    points = deque([(now - WINDOW - 1, 9.0), (now - WINDOW + 0.001, 1.0), (now - 0.02, 3.0), (now - 0.01, 2.0)])
    bins = binned(points, now)
    assert bins.shape == (BINS,)
    assert (bins[0], bins[-1]) == (1.0, 3.0)
    assert np.isnan(bins[1:-1]).all()
    assert np.isnan(binned(deque(), now)).all()


def test_the_table_says_what_a_loop_does():
    tap, link, log = ticked(None, "plan")
    state, other = LoopState(link), LoopState(tapped()[1])
    link.say("driving", 3)
    tap.on_decision(np.zeros(3), Answering().decide(np.zeros(3)))
    log.refuse("observation refused: too warm")
    tap.publish(np.zeros(3))
    other.link.say("failed", 0, "ValueError: no | such thing")
    for each in (state, other):
        each.update()
    said = table([state, other])
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in said.splitlines()[2:]
        if "|" in line
    }
    assert cells["loop"] == ["asynchronous", "failed: ValueError: no / such thing"]
    assert cells["decision"] == ["**1.0 ms**", "-"]
    assert cells["late: plan, hold, stop"] == ["1, 0, 0", "-"]
    assert cells["refused"] == ["1", "-"]
    assert said.endswith("*dnk-0: observation refused: too warm*")


def test_numbers_are_those_of_the_last_observations():
    tap, link = tapped()
    robot = tap.begin(Drifting(), EpisodeLog(4))
    for _ in range(3):
        robot.read()
    state = LoopState(link)
    state.update()
    when, seen = state.numbers(2)
    assert seen.tolist() == [[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]]
    assert (np.diff(when) >= 0).all()
    assert LoopState(link).numbers(2)[1].shape == (0, 2)


@pytest.mark.slow
def test_candidates_are_drawn_where_the_task_says_that_plans_go():
    """Parity with the task's own figures, plan by plan; the frame is that of the decision's observation."""
    task = TASKS["kinova"]()
    tap, link = tapped(task.control)
    seen = task.first_observation(task.scenes(3, 0)[2])
    rng = np.random.default_rng(0)
    plans = rng.normal(size=(5, task.control.horizon, task.control.transition_dim)).astype(np.float32)
    decision = Answering().decide(np.zeros(3))
    tap.on_decision(seen, type(decision)(np.zeros(3), plans[3], plans, decision.scores, {"total": 0.1}))
    paths, scores, chosen = candidate_paths(task, link.decisions.newest())
    frame = task.encode(torch.from_numpy(seen).float()[None]).frame
    for plan, path in zip(plans, paths, strict=True):
        assert path == pytest.approx(task.paths(torch.from_numpy(plan)[None], frame)[0].numpy(), abs=1e-6)
    assert np.array_equal(chosen, paths[3])
    assert np.array_equal(scores, decision.scores, equal_nan=True)
    assert CONTROL.horizon < task.control.horizon
