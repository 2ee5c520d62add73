"""The Adroit hand's tasks: D4RL's numbers, the real environments, and what counts as a success."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onestride.data.episode import Episode
from onestride.robot.clock import ChargedClock
from onestride.tasks import TASKS
from onestride.tasks.adroit.control_spec import HANDS, control_spec
from onestride.tasks.adroit.task import measure_episode
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment

#: The references of D4RL's infos.py, and the shapes that its documentation lists.
D4RL = {
    "adroit-pen": (45, 24, 96.262799, 3076.8331017826877),
    "adroit-door": (39, 28, -56.512833, 2880.5693087298737),
    "adroit-hammer": (46, 26, -274.856578, 12794.134825156867),
    "adroit-relocate": (39, 30, -6.425911, 4233.877797728884),
}
STEPS = 200
#: What a state has beside positions and velocities.
PLACES = {
    "adroit-pen": ["desired_orien"],
    "adroit-door": ["door_body_pos"],
    "adroit-hammer": ["board_pos"],
    "adroit-relocate": ["obj_pos", "target_pos"],
}


@pytest.fixture(params=D4RL)
def task(request):
    pytest.importorskip("gymnasium_robotics")
    return TASKS[request.param]()


@pytest.fixture
def env(task):
    made = make_environment(task.benchmark.environment)
    yield made
    made.close()


def test_shapes_and_references_are_d4rls(task):
    observation_dim, action_dim, random, expert = D4RL[task.name]
    assert (task.control.observation_dim, task.control.action_dim) == (observation_dim, action_dim)
    assert task.benchmark.normalised(random) == 0
    assert task.benchmark.normalised(expert) == 1


def test_the_environment_agrees(task, env):
    assert env.observation_space.shape == (task.control.observation_dim,) == (task.control.state_dim,)
    assert env.action_space.shape == (task.control.action_dim,)
    np.testing.assert_array_equal(env.action_space.low, task.control.limits.low)
    np.testing.assert_array_equal(env.action_space.high, task.control.limits.high)
    assert env.unwrapped.dt == pytest.approx(task.control.control_dt)
    assert env.spec.max_episode_steps == STEPS


def near_the_goal(name, env):
    """Put the environment's objects where the goal is achieved or nearly so."""
    told = env.unwrapped.get_env_state()
    taken = {"qpos", "qvel", *PLACES[name]}  # it tells more than it takes
    state = {k: np.array(v) for k, v in told.items() if k in taken}
    qpos = state["qpos"]
    if name == "adroit-pen":
        state["desired_orien"] = np.sqrt([0.5, 0.0, 0.5, 0.0])  # the way the pen lies
    elif name == "adroit-door":
        qpos[env.unwrapped.door_hinge_addrs] = 1.4
    elif name == "adroit-hammer":
        qpos[26] = 0.09  # the nail, which slides
    else:
        state["target_pos"] = state["obj_pos"] + np.array([0.0, 0.0, 0.09])
    env.unwrapped.set_env_state(state)


def test_a_steps_reward_tells_whether_the_goal_is_achieved(task, env):
    """As the environment's ``info`` does, at every step near the goal and far from it."""
    rng, achieved = np.random.default_rng(0), []
    for near in (False, True):
        env.reset(seed=0)
        if near:
            near_the_goal(task.name, env)
        for _ in range(60):
            _, reward, terminated, _, info = env.step(rng.uniform(-1, 1, task.control.action_dim).astype(np.float32))
            assert (np.float32(reward) > HANDS[task.name].achieved) == bool(info["success"])
            assert not terminated
            achieved.append(bool(info["success"]))
    assert any(achieved)
    assert not all(achieved)


def episode(name, rewards, heights=None):
    hand, steps = HANDS[name], len(rewards)
    observations = np.ones((steps + 1, hand.observation_dim))
    if heights is not None:
        observations[1:, 26] = heights
    return Episode(observations, np.zeros((steps, hand.action_dim)), np.asarray(rewards, float), False, True)


@pytest.mark.parametrize(("name", "held"), [("adroit-pen", 20), ("adroit-door", 25), ("adroit-relocate", 25)])
def test_an_episode_is_a_success_where_it_holds_the_goal_longer_than_its_authors_ask(name, held):
    """The steps need not follow one another."""
    bonus = HANDS[name].achieved + 1
    for count, wanted in ((0, (0, 0)), (1, (0, 1)), (held, (0, 1)), (held + 1, (1, 1)), (STEPS, (1, 1))):
        rewards = np.random.default_rng(0).permutation(np.repeat([bonus, 0.5], [count, STEPS - count]))
        measured = measure_episode(name, episode(name, rewards))
        assert (measured["success"], measured["reached"]) == wanted


def test_the_pens_return_is_also_cut_as_d4rls_episodes():
    """After a hundred steps, or with the step in which the pen is dropped."""
    _, _, random, expert = D4RL["adroit-pen"]

    def score(steps):
        return (2.0 * steps - random) / (expert - random)

    heights = np.full(STEPS, 0.2)
    rewards = np.full(STEPS, 2.0)
    for dropped_at, steps in ((None, 100), (150, 100), (30, 31), (0, 1)):
        now = heights.copy()
        if dropped_at is not None:
            now[dropped_at:] = 0.05
        measured = measure_episode("adroit-pen", episode("adroit-pen", rewards, now))
        assert measured["pen_return_100"] == pytest.approx(score(steps))
    short = measure_episode("adroit-pen", episode("adroit-pen", rewards[:40], heights[:40]))
    assert short["pen_return_100"] == pytest.approx(score(40))
    assert "pen_return_100" not in measure_episode("adroit-door", episode("adroit-door", rewards))


def test_what_is_measured_is_shown(task):
    measured = task.measure_episode(episode(task.name, np.zeros(STEPS)))
    assert {m.name for m in task.metrics} >= measured.keys()
    assert not task.terminates


def test_a_hand_that_does_not_wait_reaches_its_goal_too(task):
    for near in (False, True):
        clock = ChargedClock()
        robot: GymRobot = task.environment(3, clock)
        if near:
            near_the_goal(task.name, robot.environment)
        robot.write(np.zeros(task.control.action_dim))
        clock.sleep_until(0.02)
        robot.read()
        assert task.measure(robot, 3)["reached"] == near
        robot.stop()


def test_without_gymnasium_robotics_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ModuleNotFoundError, match=r'this needs gymnasium_robotics: pip install "onestride\[tasks\]"'):
        TASKS["adroit-pen"]()


def test_control_interfaces_need_no_simulator(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    for name, (observation_dim, action_dim, *_) in D4RL.items():
        spec = control_spec(name)
        assert (spec.observation_dim, spec.action_dim) == (observation_dim, action_dim)
