"""PushT: its spaces, a simulation that is the environment's, ways round the block, and a planner that solves it."""

import math
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from onestride.data.collect import collect
from onestride.tasks.pusht import planner
from onestride.tasks.pusht.environment import EPISODE_STEPS, ID, OBSERVATION_DIM, make_pusht
from onestride.tasks.pusht.planner import BOXES, RADIUS, Planner, PlannerConfig, demonstrate, draw_pushes
from onestride.tasks.pusht.simulation import Simulation, State, read_state


def test_without_gym_pusht_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht.envs.pusht", None)
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "onestride\[tasks\]"'):
        gymnasium.make(ID)


@pytest.fixture
def env():
    pytest.importorskip("gym_pusht")
    env = gymnasium.make(ID)
    yield env
    env.close()


@pytest.fixture
def simulation():
    pytest.importorskip("gym_pusht")
    return Simulation()


# ---- the environment ----


def test_an_observation_is_the_agent_and_the_corners_of_the_block(env, simulation):
    observation, _ = env.reset(seed=5)
    assert observation.dtype == np.float32
    assert observation.shape == env.observation_space.shape == (OBSERVATION_DIM,)
    world = env.unwrapped
    np.testing.assert_allclose(observation[:2], world.agent.position, atol=1e-4)
    cos, sin = math.cos(world.block.angle), math.sin(world.block.angle)
    corners = simulation.corners @ np.array([[cos, sin], [-sin, cos]]) + world.block.position
    np.testing.assert_allclose(observation[2:], corners.ravel(), atol=1e-3)


def test_spaces_and_the_limit_of_time(env):
    assert env.action_space == Box(0, 512, (2,), np.float32)
    env.reset(seed=0)
    for step in range(EPISODE_STEPS):
        observation, reward, terminated, truncated, info = env.step(np.array([20, 20], np.float32))
        assert env.observation_space.contains(observation)
        assert 0 <= reward <= 1
        assert not terminated
        assert truncated == (step == EPISODE_STEPS - 1)
        assert not info["is_success"]


def test_a_block_at_its_goal_ends_the_episode():
    pytest.importorskip("gym_pusht")
    env = make_pusht()
    env.reset(seed=0)
    simulation = Simulation(env)
    simulation.set_state(State((50.0, 50.0), (0.0, 0.0), (256.0, 256.0), math.pi / 4))
    assert simulation.error() == pytest.approx(0, abs=1e-9)
    _, reward, terminated, _, info = env.step(np.array([50, 50], np.float32))
    assert terminated
    assert info["is_success"]
    assert info["coverage"] == pytest.approx(1)
    assert reward == 1


# ---- the simulation ----


def test_the_error_of_a_shift_is_its_length(simulation):
    simulation.set_state(State((50.0, 50.0), (0.0, 0.0), (259.0, 252.0), math.pi / 4))
    assert simulation.error() == pytest.approx(5)
    # Half a turn moves every corner by twice its distance from the origin.
    simulation.set_state(State((50.0, 50.0), (0.0, 0.0), (256.0, 256.0), 5 * math.pi / 4))
    assert simulation.error() == pytest.approx(2 * np.linalg.norm(simulation.corners, axis=1).mean())


def test_simulated_pushes_are_the_environments_steps_bit_for_bit(simulation):
    env = make_pusht()
    rng = np.random.default_rng(0)
    for seed in range(12):
        env.reset(seed=seed)
        start = State((60.0, 60.0), (90.0, -40.0), (250.0 + 2 * seed, 270.0), 0.5 * seed)
        push = draw_pushes(start, 100.0, replace(PlannerConfig(), candidates=1, shortest=60.0), rng)[0]
        Simulation(env).set_state(start)
        simulation.set_state(start)  # after the pushes before, which left contacts
        for action in push:
            env.step(action)
            simulation.step(action.tolist())
            assert simulation.state() == read_state(env)
        assert simulation.state().block != start.block


# ---- ways and pushes ----


def test_ways_go_round_the_block_and_end_where_they_should():
    state = State((0.0, 0.0), (0.0, 0.0), (256.0, 256.0), 0.0)
    ends = np.array([[0.0, 141.0], [100.0, 0.0], [40.0, 60.0], [-40.0, 100.0], [0.0, -60.0]])
    ways = planner.paths_round_block(np.array([0.0, -50.0]), ends, state)
    for way, end in zip(ways, ends, strict=True):
        np.testing.assert_array_equal(way[[0, -1]], [[0.0, -50.0], end])
        fine = np.concatenate([a + np.linspace(0, 1, 200)[:, None] * (b - a) for a, b in pairwise(way)])
        nearest = fine[:, None].clip(BOXES[:, :2], BOXES[:, 2:])
        assert np.linalg.norm(fine[:, None] - nearest, axis=-1).min() > RADIUS
    assert len(ways[4]) == 2  # straight
    # Round two corners of the bar, 60 + 21 px from its middle, and one of the stem, 15 + 21 px from it.
    length = np.linalg.norm(np.diff(ways[0], axis=0), axis=1).sum()
    assert length == pytest.approx(math.hypot(81, 29) + 72 + math.hypot(45, 90) + 36)


def test_an_agent_that_touches_the_block_leaves_it_first():
    state = State((0.0, 0.0), (0.0, 0.0), (256.0, 256.0), 0.0)
    way = planner.paths_round_block(np.array([30.0, -RADIUS]), np.array([[100.0, 100.0]]), state)[0]
    assert way[1, 0] == 30
    assert way[1, 1] < -RADIUS


def test_an_agent_between_block_and_wall_still_has_pushes():
    # The bar lies along the wall at y = 0, with the agent between them.
    state = State((256.0, 6.0), (0.0, 0.0), (256.0, 24.0), 0.0)
    agent = planner.to_block(np.array([state.agent]), state)[0]
    assert planner.paths_round_block(agent, np.array([[0.0, 141.0]]), state) == [None]
    config = replace(PlannerConfig(), candidates=4)
    pushes = draw_pushes(state, 100.0, config, np.random.default_rng(0))
    assert len(pushes) == 4
    assert all((push >= 0).all() and (push <= 512).all() for push in pushes)


def test_resampled_paths_keep_their_corners_length_and_spacing():
    points = planner.resample(np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 50.0]]), 9.0)
    np.testing.assert_allclose(points[-1], [30, 50])
    along = points.sum(1)  # of a path that never turns back
    np.testing.assert_allclose(np.diff(along, prepend=0), 80 / 9)


# ---- demonstrations ----


def test_a_chunk_depends_on_its_arguments_alone_and_its_episodes_are_solved(env, monkeypatch):
    monkeypatch.setattr(planner, "EPISODES_PER_CHUNK", 2)
    config = replace(PlannerConfig(), candidates=16)
    first, counts = planner.chunk(1, 2, config)
    again, _ = planner.chunk(1, 2, config)
    other, _ = planner.chunk(1, 3, config)
    assert counts["starts"] == 2
    assert len(first) == 2 - counts["refused: not solved in time"] > 0
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.observations, b.observations)
        assert a.terminated
        assert a.rewards[-1] == 1
        assert env.action_space.contains(a.actions[len(a) // 2])
    assert (first[0].observations[0] != other[0].observations[0]).any()


def test_other_draws_from_one_start_give_other_demonstrations(env):
    env.reset(seed=3)
    pushes = Planner(replace(PlannerConfig(), candidates=16))
    ends = {tuple(pushes.actions(read_state(env), np.random.default_rng(i))[-1]) for i in range(4)}
    assert len(ends) > 1


def test_collected_episodes_are_a_dataset_that_is_found_again(env, tmp_path):
    pushes = Planner(replace(PlannerConfig(), candidates=8))

    def source(seed, number):
        return [demonstrate(env, pushes, number, np.random.default_rng(seed))[0]], Counter()

    wanted = 1, 0, tmp_path / "data", planner.metadata(), planner.action_space()
    report = collect(source, *wanted)
    assert report["task"] == "pusht"
    assert report.items() <= collect(source, *wanted).items()


@pytest.mark.slow
def test_nine_of_ten_starts_are_solved(env):
    pushes = Planner(PlannerConfig())
    solved = [demonstrate(env, pushes, seed, np.random.default_rng(seed))[1] for seed in range(20)]
    assert sum(solved) >= 18
