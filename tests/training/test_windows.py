"""Windows against a loop that could not be simpler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.data.episode import Episode
from onestride.tasks import TASKS
from onestride.training import windows as module
from onestride.training.windows import TAIL, make_transitions, make_windows, window_returns

LENGTHS = (7, 1, 3, 4, 12)  # shorter than, as long as, and longer than the horizon of 4


def naive(episodes, task):
    """Every step of every episode; past the end the last observation and the last action again."""
    plans, contexts, firsts = [], [], []
    for e in episodes:
        for t in range(len(e)):
            o, a = [], []
            for i in range(task.control.horizon):
                o.append(e.observations[t + i] if t + i <= len(e) else e.observations[-1])
                a.append(e.actions[t + i] if t + i < len(e) else e.actions[-1])
            plan, context = task.plan_window(torch.tensor(np.array(o))[None], torch.tensor(np.array(a))[None])
            plans.append(plan[0])
            contexts.append(context[0])
            firsts.append(torch.tensor(o[0]))
    return torch.stack(plans), torch.stack(contexts), torch.stack(firsts)


@pytest.fixture
def episodes(point, make_episode):
    return [make_episode(point, steps, seed) for seed, steps in enumerate(LENGTHS)]


@pytest.mark.parametrize("chunk", [8192, 5, 1])
def test_as_the_naive_loop(episodes, point, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    made = make_windows(iter(episodes), point)
    plans, context, observations = naive(episodes, point)
    assert torch.equal(made.plans, plans)
    assert torch.equal(made.context, context)
    assert torch.equal(made.observations, observations)
    assert made.plans.dtype == made.context.dtype == made.observations.dtype == torch.float32


def test_every_step_of_every_episode_starts_a_window_the_last_one_too(episodes, point):
    made = make_windows(episodes, point)
    assert len(made) == sum(LENGTHS)
    starts = {tuple(row.tolist()) for row in made.observations}
    for e in episodes:
        assert all(tuple(o.tolist()) in starts for o in e.observations[:-1])
        last = (made.observations == torch.from_numpy(e.observations[-2])).all(1).nonzero().item()
        plan = made.plans[last]
        np.testing.assert_array_equal(plan[0, :2], e.observations[-2][:2])
        for row in range(1, point.control.horizon):  # standing still where it ended
            np.testing.assert_array_equal(plan[row, :2], e.observations[-1][:2])
        for row in range(point.control.horizon):
            np.testing.assert_array_equal(plan[row, 2:], e.actions[-1])


def test_the_arms_windows_are_the_naive_loops_too(make_episode):
    task = TASKS["kinova"]()
    episodes = [make_episode(task, 3, seed) for seed in range(2)]
    made = make_windows(episodes, task)
    plans, context, _ = naive(episodes, task)
    torch.testing.assert_close(made.plans, plans, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.context, context, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("observation", "action"), [(3, 2), (4, 3), (41, 3)])
def test_an_episode_of_another_task_is_refused(episodes, point, observation, action):
    other = Episode(np.zeros((3, observation)), np.zeros((2, action)), np.zeros(2), True)
    with pytest.raises(ValueError, match=rf"episode 5 .*{observation} .*{action} .*'point' expects 4 and 2"):
        make_windows([*episodes, other], point)


def test_no_episode_is_refused(point):
    with pytest.raises(ValueError, match="holds no episode; collect some"):
        make_windows([], point)


# ---- whole windows only ----


@pytest.fixture
def whole(point):
    return replace(point, padding="none")


def test_whole_windows_end_with_the_episode(episodes, whole):
    made = make_windows(episodes, whole)
    assert len(made) == sum(max(t - whole.control.horizon + 1, 0) for t in LENGTHS)
    rows = iter(made.plans)
    for e in episodes:
        for start in range(len(e) - whole.control.horizon + 1):
            plan = next(rows)
            for h in range(whole.control.horizon):
                np.testing.assert_array_equal(plan[h, :2], e.observations[start + h, :2])
                np.testing.assert_array_equal(plan[h, 2:], e.actions[start + h])
    assert next(rows, None) is None
    last = make_windows(episodes[-1:], whole).plans[-1]  # its last action is there, the observation after it is not
    np.testing.assert_array_equal(last[-1, 2:], episodes[-1].actions[-1])
    np.testing.assert_array_equal(last[-1, :2], episodes[-1].observations[-2, :2])


def test_whole_windows_are_the_first_of_the_held_ones(episodes, point, whole):
    held, some = make_windows(episodes[-1:], point), make_windows(episodes[-1:], whole)
    assert torch.equal(held.plans[: len(some)], some.plans)
    assert torch.equal(held.observations[: len(some)], some.observations)


def test_no_episode_as_long_as_a_window_is_refused(episodes, whole):
    with pytest.raises(ValueError, match="no episode is as long as a window of 4 steps: the longest has"):
        make_windows(episodes[1:3], whole)


# ---- returns ----


def naive_return(rewards, start, discount, after):
    """The sum as it is written, step by step into a future that earns ``after`` for ever."""
    total = sum(discount**i * r for i, r in enumerate(rewards[start:]))
    return total + discount ** (len(rewards) - start) * after / (1 - discount)


@pytest.mark.parametrize("padding", ["hold", "none"])
@pytest.mark.parametrize(("discount", "penalty"), [(0.9, 0.0), (0.99, -7.0)])
def test_returns_are_the_naive_sums_row_for_row_as_the_windows(episodes, point, padding, discount, penalty):
    task = replace(point, padding=padding)
    ends = [(True, False), (False, True), (True, True), (True, False), (False, True)]
    episodes = [replace(e, terminated=a, truncated=b) for e, (a, b) in zip(episodes, ends, strict=True)]
    found = window_returns(iter(episodes), task, discount, penalty)
    windows = make_windows(episodes, task)
    assert found.shape == (len(windows),)
    assert found.dtype == torch.float32
    for value, observation in zip(found, windows.observations, strict=True):
        owner = [(e, t) for e in episodes for t in range(len(e)) if np.array_equal(e.observations[t], observation)]
        ((e, start),) = owner
        rewards = e.rewards.astype(float)
        after = 0.0
        if e.terminated:
            rewards[-1] += penalty
        else:
            after = rewards.mean()  # all of it is the tail of so short an episode
        assert value.item() == pytest.approx(naive_return(rewards, start, discount, after), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("discount", [0.9, 0.997])
def test_a_constant_reward_that_was_cut_off_is_worth_the_same_at_every_step(point, make_episode, discount):
    """r / (1 - discount), with no clock in it; one that fell is worth less the nearer the fall."""
    e = replace(make_episode(point, 30), rewards=np.full(30, 2.5), terminated=False, truncated=True)
    task = replace(point, padding="none")
    cut = window_returns([e], task, discount, -100.0)
    torch.testing.assert_close(cut, torch.full((27,), 2.5 / (1 - discount)))
    fell = window_returns([replace(e, terminated=True, truncated=False)], task, discount, -100.0)
    assert (fell.diff() < 0).all()
    assert (fell < cut).all()


def test_the_penalty_is_for_falls_alone_and_the_episode_is_not_changed(point, make_episode):
    e = make_episode(point, 10)
    before = e.rewards.copy()
    fell = window_returns([e], point, 0.9, -50.0) - window_returns([e], point, 0.9)
    torch.testing.assert_close(fell, -50.0 * 0.9 ** torch.arange(9.0, -1, -1))
    cut = replace(e, terminated=False, truncated=True)
    assert torch.equal(window_returns([cut], point, 0.9, -50.0), window_returns([cut], point, 0.9))
    np.testing.assert_array_equal(e.rewards, before)


def test_the_tail_is_the_last_steps_alone(point, make_episode):
    e = replace(make_episode(point, TAIL + 50), rewards=np.r_[np.full(50, 9.0), np.full(TAIL, 1.0)])
    e = replace(e, terminated=False, truncated=True)
    assert window_returns([e], point, 0.9)[-1].item() == pytest.approx(10.0)


# ---- single steps ----


def test_transitions_are_the_steps_one_by_one(episodes, point):
    ends = [(True, False), (False, True), (True, False), (False, True), (True, True)]
    episodes = [replace(e, terminated=a, truncated=b) for e, (a, b) in zip(episodes, ends, strict=True)]
    made = make_transitions(iter(episodes), point)
    assert set(made) == {"observation", "next_observation", "action", "reward", "terminated"}
    assert all(v.dtype == torch.float32 and len(v) == sum(LENGTHS) for v in made.values())
    row = 0
    for e in episodes:
        for t in range(len(e)):
            np.testing.assert_array_equal(made["observation"][row], e.observations[t])
            np.testing.assert_array_equal(made["next_observation"][row], e.observations[t + 1])
            np.testing.assert_array_equal(made["action"][row], e.actions[t])
            assert made["reward"][row] == e.rewards[t]
            assert made["terminated"][row] == float(e.terminated and t == len(e) - 1)
            row += 1


@pytest.mark.parametrize("make", [make_transitions, lambda e, t: window_returns(e, t, 0.9)])
def test_steps_and_returns_refuse_what_windows_refuse(episodes, point, make):
    other = Episode(np.zeros((3, 3)), np.zeros((2, 2)), np.zeros(2), True)
    with pytest.raises(ValueError, match=r"episode 5 .*is this dataset of another task"):
        make([*episodes, other], point)
    with pytest.raises(ValueError, match="holds no episode"):
        make([], point)


# ---- early steps ----


@pytest.mark.parametrize("padding", ["hold", "none"])
def test_what_begins_early_is_there_so_many_times_in_windows_returns_and_transitions_alike(episodes, point, padding):
    once = replace(point, padding=padding)
    often = replace(once, early_oversampling=(3, 4))
    starts = {"hold": lambda t: t, "none": lambda t: max(t - once.control.horizon + 1, 0)}[padding]
    times = {
        rows: torch.tensor([4 if i < 3 else 1 for e in episodes for i in range(rows(len(e)))])
        for rows in (starts, lambda t: t)
    }
    of_windows, of_steps = times.values()
    plain, repeated = make_windows(episodes, once), make_windows(episodes, often)
    for name in ("plans", "context", "observations"):
        assert torch.equal(getattr(repeated, name), getattr(plain, name).repeat_interleave(of_windows, 0))
    returns = window_returns(episodes, once, 0.9)
    assert torch.equal(window_returns(episodes, often, 0.9), returns.repeat_interleave(of_windows))
    steps, more = make_transitions(episodes, once), make_transitions(episodes, often)
    for name, column in steps.items():
        assert torch.equal(more[name], column.repeat_interleave(of_steps, 0)), name
