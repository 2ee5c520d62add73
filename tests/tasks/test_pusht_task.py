"""PushT as a task: chunks and history mean the same in lockstep and in the loop, synchronous or not."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pytest
import torch

from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.data.episode import Episode
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.robot.clock import ChargedClock
from onestride.tasks import TASKS
from onestride.tasks.lockstep import Lockstep
from onestride.training.windows import make_windows

pytest.importorskip("gym_pusht")
STEPS = 60


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    task = TASKS["pusht"]()
    generator = make_generator(task, "dnk", {"latent_dim": 8, "hidden": 8, "gain_hidden": 4})
    numbers = ((2, 256.0), (2, 128.0), (36, 256.0), (36, 99.0))
    normalizer = Normalizer(*(torch.full((size,), value) for size, value in numbers))
    return Policy(task, generator, normalizer, selector=unselected, candidates=2)


def in_the_loop(policy, make=lambda policy, clock: policy):
    """What was sent in an episode in which decisions take no time."""
    clock = ChargedClock()
    clock.charge = lambda seconds: None
    robot, sent = policy.task.environment(5, clock), []
    write = robot.write
    robot.write = lambda command: (sent.append(np.array(command)), write(command))
    policy.reset(3)
    log = run_episode(robot, clock, make(policy, clock), policy.control, timeout=STEPS * policy.control.control_dt)
    return np.array(sent), log


def test_an_episode_in_lockstep_is_the_one_in_the_loop(policy):
    policy.reset(3)
    lockstep = Lockstep(policy.task.benchmark.environment, 1)
    (episode,) = lockstep.roll([5], lambda seen, _: policy.predict_action_chunk(seen), policy.control.n_obs_steps)
    sent, log = in_the_loop(policy)
    assert log.executed == len(sent) == STEPS
    assert len(log.decision_times.rows) == -(-STEPS // policy.control.n_action_steps)
    np.testing.assert_allclose(sent, episode.actions[:STEPS], atol=1e-3)


def test_asynchronous_inference_sends_every_period_and_nothing_is_late(policy):
    latency = 0.3 * policy.control.control_dt
    sent, log = in_the_loop(policy, lambda policy, clock: SimulatedLatency(policy, clock, repeat(latency)))
    assert log.executed == len(sent) == STEPS
    assert sum(log.late.values()) == log.overruns == log.dropped == 0


def test_a_window_is_a_chunk_and_what_was_seen_before_it():
    task = TASKS["pusht"]()
    seen, actions = np.arange(21 * 18.0).reshape(21, 18), np.arange(40.0).reshape(20, 2)
    windows = make_windows([Episode(seen, actions, np.zeros(20), False)], task)
    assert windows.plans.shape == (20, 16, 2)
    np.testing.assert_array_equal(windows.plans[3], actions[3:19])
    np.testing.assert_array_equal(windows.context[3], seen[2:4].ravel())
    np.testing.assert_array_equal(windows.context[0], seen[[0, 0]].ravel())  # the first is repeated
    np.testing.assert_array_equal(windows.plans[19], actions[[19] * 16])  # and the last
    np.testing.assert_array_equal(windows.observations, windows.context)
