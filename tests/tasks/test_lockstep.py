"""Environments side by side against one environment alone, to the bit."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest

from onestride.tasks.lockstep import Lockstep, make_environment, quiet

HOPPER, CHEETAH = "Hopper-v5", "HalfCheetah-v5"
SEEDS = (3, 11, 4, 8)
ROUGH = (0.9, 0.02, 0.3, 0.6)  # in no order, so that those who still stand are not the first ones


@pytest.fixture(scope="module")
def hoppers():
    lockstep = Lockstep(HOPPER, 4)
    yield lockstep
    lockstep.close()


def scripted(seeds, dim):
    """Actions by environment and its own step, however many run beside it; the rougher fall earlier."""
    rows = [by * np.random.default_rng(s).standard_normal((1000, dim)) for s, by in zip(seeds, ROUGH, strict=True)]
    rows = np.clip(rows, -1, 1).astype(np.float32)
    at = np.zeros(len(seeds), dtype=int)

    def act(observations, which):
        assert len(observations) == len(which)
        chosen = rows[which, at[which]]
        at[which] += 1
        return chosen

    return act, rows


def alone(environment, seed, actions, limit=1000):
    """The loop that could not be simpler."""
    env = make_environment(environment)
    observation, _ = env.reset(seed=seed)
    observations, rewards = [observation], []
    for action in actions[:limit]:
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    env.close()
    return np.array(observations, np.float32), np.array(rewards, np.float32), terminated, truncated


def test_every_episode_is_the_one_that_its_environment_alone_makes(hoppers):
    """Some fall twenty steps before others, which must not notice; the reward of the fall counts."""
    act, actions = scripted(SEEDS, 3)
    episodes = hoppers.roll(SEEDS, act)
    lengths = [len(e) for e in episodes]
    assert max(lengths) > min(lengths) + 20
    for seed, rows, episode in zip(SEEDS, actions, episodes, strict=True):
        observations, rewards, terminated, truncated = alone(HOPPER, seed, rows)
        np.testing.assert_array_equal(episode.observations, observations)
        np.testing.assert_array_equal(episode.actions, rows[: len(rewards)])
        np.testing.assert_array_equal(episode.rewards, rewards)
        assert (episode.terminated, episode.truncated) == (terminated, truncated) == (True, False)


def test_an_episode_depends_neither_on_its_neighbours_nor_on_what_was_rolled_before(hoppers):
    act, _ = scripted(SEEDS, 3)
    together = hoppers.roll(SEEDS, act)
    for i, seed in enumerate(SEEDS):
        rough = scripted(SEEDS, 3)[1][i]
        steps = iter(rough)
        (single,) = hoppers.roll([seed], lambda observations, which, steps=steps: next(steps)[None])
        np.testing.assert_array_equal(single.observations, together[i].observations)
        np.testing.assert_array_equal(single.rewards, together[i].rewards)


def test_who_acts_sees_the_running_ones_alone_and_by_number(hoppers):
    act, _ = scripted(SEEDS, 3)
    seen = []

    def watched(observations, which):
        seen.append((observations.copy(), which.copy()))
        return act(observations, which)

    episodes = hoppers.roll(SEEDS, watched)
    for step, (observations, which) in enumerate(seen):
        assert which.tolist() == [i for i, e in enumerate(episodes) if len(e) > step]
        for row, i in zip(observations, which, strict=True):
            np.testing.assert_array_equal(row.astype(np.float32), episodes[i].observations[step])
    assert len(seen) == max(len(e) for e in episodes)


def test_time_is_up_after_a_thousand_steps_and_that_is_no_fall():
    lockstep = Lockstep(CHEETAH, 2)
    (episode,) = lockstep.roll([5], lambda observations, _: np.full((len(observations), 6), 0.1))
    lockstep.close()
    observations, rewards, terminated, truncated = alone(CHEETAH, 5, np.full((1000, 6), 0.1, np.float32))
    assert len(episode) == 1000
    assert (episode.terminated, episode.truncated) == (terminated, truncated) == (False, True)
    np.testing.assert_array_equal(episode.observations, observations)
    np.testing.assert_array_equal(episode.rewards, rewards)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_with_its_seed_and_step(hoppers, bad):
    act, _ = scripted(SEEDS, 3)
    calls = 0

    def spoilt(observations, which):
        nonlocal calls
        calls += 1
        actions = act(observations, which)
        if calls == 6:
            actions[list(which).index(2), 1] = bad
        return actions

    with pytest.raises(ArithmeticError, match="not finite: seed 4, step 5"):
        hoppers.roll(SEEDS, spoilt)
    assert len(hoppers.roll([1], lambda o, _: np.zeros((len(o), 3)))) == 1  # and the next batch is none the worse


@pytest.mark.parametrize("count", [0, 5])
def test_more_episodes_than_environments_are_refused(hoppers, count):
    with pytest.raises(ValueError, match=f"{count} seeds for 4 environments; give between 1 and 4"):
        hoppers.roll(range(count), lambda o, _: np.zeros((len(o), 3)))


@pytest.mark.parametrize("environment", ["Walker2d-v4", "Walker2d-v5", HOPPER])
def test_making_one_says_nothing_and_leaves_no_log(environment, tmp_path, monkeypatch, capfd):
    """Gymnasium warns of v4, MuJoCo of an attribute in the XML, on the screen and in a file where one stands."""
    monkeypatch.chdir(tmp_path)
    handler = mujoco.get_mju_user_warning()
    make_environment(environment).close()
    lockstep = Lockstep(environment, 2)
    lockstep.roll([0], lambda o, _: np.zeros((len(o), lockstep.environments.single_action_space.shape[0])))
    lockstep.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert mujoco.get_mju_user_warning() is handler


def test_settings_reach_the_environment():
    env = make_environment(HOPPER, max_episode_steps=2)
    env.reset(seed=0)
    assert env.step(np.zeros(3, np.float32))[3] is False
    assert env.step(np.zeros(3, np.float32))[3] is True
    env.close()
    with pytest.raises(gymnasium.error.NameNotFound):
        make_environment("Hoper-v5")


def not_installed(package):
    try:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    except ModuleNotFoundError as error:
        raise gymnasium.error.DependencyNotInstalled(f"{package} is missing:\nx") from error


@pytest.mark.parametrize(
    ("package", "said"), [("mujoco", "No module named 'mujoco'"), ("Box2D", "Box2D is missing: x")]
)
def test_a_missing_package_that_no_extra_brings_is_told_as_gymnasium_does(package, said):
    """Of others the extra is named, see ``errors.naming_extras``."""
    with pytest.raises(ModuleNotFoundError, match=said) as missing, quiet():
        not_installed(package)
    assert missing.value.name == package
