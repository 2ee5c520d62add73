"""Windows against a loop that could not be simpler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.data import windows as module
from onestride.data.episode import Episode
from onestride.data.windows import make_windows
from onestride.tasks import TASKS

LENGTHS = (7, 1, 3, 4, 12)  # shorter than, as long as, and longer than the horizon of 4


def naive(episodes, task):
    """Every step of every episode; past the end the last observation and the last action again."""
    plans, contexts, firsts = [], [], []
    for e in episodes:
        for t in range(len(e)):
            o, a = [], []
            for i in range(task.horizon):
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
        for row in range(1, point.horizon):  # standing still where it ended
            np.testing.assert_array_equal(plan[row, :2], e.observations[-1][:2])
        for row in range(point.horizon):
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
