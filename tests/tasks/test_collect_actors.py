"""Data from behaviour policies: so many steps of each, and the same however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.data.actors import BehaviourPolicy
from onestride.data.collect import collect
from onestride.data.minari import read_dataset
from onestride.runs.collecting import behaviour_stage
from onestride.runs.ingest import action_space
from onestride.tasks import TASKS
from onestride.tasks import collect_actors as module
from onestride.tasks.collect_actors import behaviour_source
from onestride.tasks.lockstep import make_environment

TASK = TASKS["hopper-v5"]()
O, A = TASK.control.observation_dim, TASK.control.action_dim  # noqa: E741


def actor(name, deviation, seed=0, observation_dim=O, action_dim=A):
    """A small random linear feedback with so much noise."""
    rng = np.random.default_rng(seed)
    mean = (0.05 * rng.normal(size=(action_dim, observation_dim)).astype(np.float32), np.zeros(action_dim, np.float32))
    log_std = (np.zeros_like(mean[0]), np.full(action_dim, np.log(deviation), np.float32))
    ones = np.ones(observation_dim)
    return BehaviourPolicy(name, (), mean, log_std, "tanh", False, 0 * ones, ones)


@pytest.fixture
def policies():
    return [actor("calm", 0.02), actor("wild", 0.5, seed=1)]


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 400)
    monkeypatch.setattr(module, "WIDTH", 3)


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
        assert (x.terminated, x.truncated) == (y.terminated, y.truncated)


@pytest.mark.slow
def test_a_chunk_is_exactly_as_long_as_it_says(policies):
    source = behaviour_source(TASK, policies)
    for chunk in range(3):
        episodes, counts = source(5, chunk)
        assert sum(len(e) for e in episodes) == 400
        assert counts == {f"steps of {policies[chunk % 2].name}": 400}
        assert all(e.terminated and not e.truncated for e in episodes[:-1])
        assert episodes[-1].truncated != episodes[-1].terminated


def test_the_last_episode_is_cut_and_says_so(policies):
    """Its steps are those of the whole one: a fall that was cut away did not happen in the data."""
    whole = behaviour_source(TASK, policies)(5, 0)[0]
    assert whole[-1].truncated
    assert not whole[-1].terminated
    observations, rewards, _, _ = replayed(whole[-1], seed_of(5, 0, len(whole) - 1))
    np.testing.assert_array_equal(whole[-1].observations, observations)
    np.testing.assert_array_equal(whole[-1].rewards, rewards)


def seed_of(seed, chunk, number):
    return int(np.random.default_rng((seed, chunk, number)).integers(2**31))


def replayed(episode, seed):
    env = make_environment("Hopper-v5")
    observations, rewards = [env.reset(seed=seed)[0]], []
    for action in episode.actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    env.close()
    return np.array(observations, np.float32), np.array(rewards, np.float32), terminated, truncated


def test_an_episode_is_the_policys_in_an_environment_alone(policies):
    """Start and noise come from one stream that seed, chunk and number name."""
    episodes, _ = behaviour_source(TASK, policies)(5, 1)
    for number in (0, 1, 4):
        stream = np.random.default_rng((5, 1, number))
        env = make_environment("Hopper-v5")
        observation, _ = env.reset(seed=int(stream.integers(2**31)))
        for action in episodes[number].actions:
            (wanted,) = policies[1].act(observation[None], [stream])
            np.testing.assert_array_equal(action, wanted)
            observation, _, terminated, _, _ = env.step(action)
        assert terminated
        env.close()


@pytest.mark.slow
def test_policies_take_turns_chunk_by_chunk(policies):
    source = behaviour_source(TASK, policies)
    calm, wild = source(0, 0)[0], source(0, 1)[0]
    assert len(wild) > 2 * len(calm)  # noise of 0.5 falls earlier
    same(source(0, 2)[0], behaviour_source(TASK, policies[:1])(0, 2)[0])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 7])
def test_the_same_seed_gives_the_same_episodes_whatever_runs_beside_and_whatever_came_before(
    policies, width, monkeypatch
):
    first = behaviour_source(TASK, policies)
    wanted = [first(9, chunk)[0] for chunk in range(2)]
    monkeypatch.setattr(module, "WIDTH", width)
    other = behaviour_source(TASK, policies)
    other(1, 0)
    same(other(9, 1)[0], wanted[1])
    same(other(9, 0)[0], wanted[0])
    assert not np.array_equal(other(10, 0)[0][0].observations, wanted[0][0].observations)


@pytest.mark.slow
def test_a_dataset_has_exactly_the_steps_asked_for_and_as_many_of_each(policies, tmp_path):
    report = collect(behaviour_source(TASK, policies), 1600, 3, tmp_path / "data", {}, action_space(TASK), "steps")
    assert report["counts"] == {"steps of calm": 800, "steps of wild": 800}
    assert sum(len(e) for e in read_dataset(tmp_path / "data")) == 1600


def test_a_policy_of_another_body_is_refused(policies):
    with pytest.raises(ValueError, match=r"'runner' maps 17 numbers to 6; task 'hopper-v5' needs 11 to 3: .*body"):
        behaviour_source(TASK, [*policies, actor("runner", 0.1, observation_dim=17, action_dim=6)])


def test_a_task_without_an_environment_that_waits_is_refused(policies):
    with pytest.raises(ValueError, match="task 'kinova' has no Gymnasium environment"):
        behaviour_source(TASKS["kinova"](), policies)


def test_no_policy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="behaviour"):
        behaviour_stage(tmp_path, TASK, (), 400, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "made"), [(1000, 1000), (1001, 1004), (800, 800)])
def test_about_as_many_steps_are_made_as_were_asked_for(policies, tmp_path, steps, made):
    source = behaviour_source(TASK, policies, steps)
    report = collect(source, steps, 3, tmp_path / "data", {}, action_space(TASK), "steps")
    assert sum(report["counts"].values()) == made
    assert len(set(report["counts"].values())) == 1  # as many of each
