"""Point mazes: plans that start and end where they have to, their selector, the environment and its demonstrations."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride import Engine
from onestride.commands.stages import Collect
from onestride.control.loop import run_episode
from onestride.data.episode import Episode
from onestride.evaluation import returns, rollouts
from onestride.evaluation.entries import evaluation_variants
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.records import EPISODES, read_records
from onestride.evaluation.result import read_experiment
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.experiment import make
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.reports.motions import act
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision
from onestride.runs import presets
from onestride.runs.pairs import load_pairs, make_pairs
from onestride.runs.run import preset_of, task_of
from onestride.runs.settings import PairsConfig
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.lockstep import make_environment
from onestride.tasks.mazes import demonstrations
from onestride.tasks.mazes.demonstrations import chunk, demonstrate_point
from onestride.tasks.mazes.environment import FlatMaze
from onestride.tasks.mazes.maps import GOAL_RADIUS, MAZES
from onestride.tasks.mazes.task import score
from onestride.tasks.reference import reference
from onestride.training.windows import make_windows

UMAZE = "pointmaze-umaze"
OBSERVATION = np.array([-1.0, 0.9, 0.5, -0.3, 0.2, -0.9])
SIZES = {
    "diffuser": {"width": 16, "blocks": 1, "n_steps": 3},
    "dnk": {"latent_dim": 16, "hidden": 16, "gain_hidden": 8},
}


@pytest.fixture(params=[name for name in MAZES if name.startswith("pointmaze")])
def task(request):
    return TASKS[request.param]()


@pytest.fixture
def robotics():
    return pytest.importorskip("gymnasium_robotics")


@pytest.fixture
def policy_of():
    def made(method, task):
        torch.manual_seed(0)
        generator = make_generator(task, method, SIZES[method])
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        normalizer = Normalizer(torch.randn(6), 0.5 + torch.rand(6), torch.zeros(0), torch.ones(0))
        return Policy(task, generator, normalizer, candidates=5)

    return made


# ---- start and goal ----


def starts_and_ends(plans, observation, atol=1e-5):
    np.testing.assert_allclose(plans[..., 0, :4], np.broadcast_to(observation[:4], plans[..., 0, :4].shape), atol=atol)
    np.testing.assert_allclose(
        plans[..., -1, :2], np.broadcast_to(observation[4:], plans[..., -1, :2].shape), atol=atol
    )


@pytest.mark.parametrize("method", SIZES)
def test_every_plan_starts_at_the_start_and_ends_at_the_goal(policy_of, task, method):
    plans = policy_of(method, task).decide(OBSERVATION).plans
    assert plans.shape == (5, task.control.horizon, 6)
    starts_and_ends(plans, OBSERVATION)
    assert plans[:, 1:-1].std(0).min() > 0  # and nothing else is given
    assert plans[:, -1, 2:].std(0).min() > 0


def test_an_engines_plan_does_too_and_its_action_is_the_policys(policy_of):
    policy = policy_of("dnk", TASKS[UMAZE]())
    engine = Engine.from_policy(policy, "torch", threads=1, draws=2, seed=0, plan=True)
    policy.reset(0)
    for shift in (0.0, 0.2):
        found, expected = engine.decide(OBSERVATION + shift), policy.decide(OBSERVATION + shift)
        starts_and_ends(found.plan, OBSERVATION + shift)
        np.testing.assert_allclose(found.action, expected.action, atol=1e-4)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


def test_so_do_the_pairs_that_a_student_learns_from(policy_of, tmp_path):
    task = TASKS[UMAZE]().with_control(horizon=8)
    teacher, observations = policy_of("diffuser", task), torch.randn(50, 6)
    make_pairs(teacher, observations, PairsConfig(count=64, shards=1), tmp_path / "pairs", {"teacher": "one"})
    pairs = load_pairs(tmp_path / "pairs")
    for plans in (pairs["prior"], pairs["target"]):
        found = teacher.normalizer.unnormalize(plans)
        ends = torch.cat((found[:, 0, :4], found[:, -1, :2]), -1)
        distance = (ends[:, None] - observations).abs().amax(-1).min(1)
        assert distance.values.max() < 1e-5
        assert len(distance.indices.unique()) > 10


def test_in_training_the_last_position_is_the_goal(task):
    steps = task.control.horizon + 5
    position = np.cumsum(np.random.default_rng(0).normal(size=(steps + 1, 2)), 0)
    goal = np.tile(position[-1], (steps + 1, 1))
    observations = np.concatenate((position, np.ones_like(position), goal), 1).astype(np.float32)
    episode = Episode(observations, np.zeros((steps, 2), np.float32), np.zeros(steps, np.float32), terminated=True)
    windows = make_windows([episode], task)
    assert len(windows) == steps  # to the last step of the episode: what follows is its last row
    known = windows.plans.flatten(1)[:, task.plans.known_entries]
    whole = [i for i in range(steps) if i + task.control.horizon - 1 >= steps]
    assert torch.equal(known[whole], task.encode(windows.observations[whole]).values)
    assert torch.equal(known[0, 4:], torch.from_numpy(observations[task.control.horizon - 1, :2]))  # a goal on the way


# ---- the selector ----


def test_the_shortest_way_wins_unless_it_jumps():
    """A straight line of 1 m costs its length; a detour its own; a jump counts twice, once as a way."""
    rows, dt = 101, 0.01
    plans = torch.zeros(1, 3, rows, 6)
    plans[..., 0] = torch.linspace(0, 1, rows)
    plans[..., 2] = 1.0  # the velocity that explains it
    plans[0, 1, :, 1], plans[0, 1, 1:, 3] = torch.linspace(0, 0.75, rows), 0.75 / (rows - 1) / dt
    plans[0, 2, 50:, 0] += 0.5  # over a wall
    torch.testing.assert_close(score(plans, torch.zeros(1, 6), None), torch.tensor([[-1.0, -1.25, -2.0]]))


# ---- the control interface ----


def test_the_control_interface_is_the_tasks(task):
    spec = CONTROL_SPECS[task.name]()
    for name in ("name", "observation_dim", "state_dim", "action_dim", "horizon", "control_dt", "layout"):
        assert getattr(spec, name) == getattr(task.control, name)
    plans = 3 * torch.randn(4, task.control.horizon, 6)
    commands = np.stack([spec.commands(plan, OBSERVATION) for plan in plans.numpy()])
    np.testing.assert_array_equal(commands[:, 0], task.command(plans, None).numpy())
    assert np.abs(commands).max() == 1
    with pytest.raises(ObservationError, match=r"shape \(4,\), expected \(6,\) of pointmaze"):
        spec.validate_observation(np.zeros(4))


def test_the_goal_is_reached_within_its_radius(task):
    for distance, reached in ((0.99 * GOAL_RADIUS, True), (1.01 * GOAL_RADIUS, False)):
        assert task.control.goal_reached(np.array([1.0, 2.0, 5.0, 5.0, 1.0, 2.0 + distance])) is reached


# ---- the environment ----


def test_without_its_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ModuleNotFoundError, match=r"PointMaze_UMaze-v3 needs gymnasium-robotics.*onestride\[tasks\]"):
        TASKS[UMAZE]().first_observation(0)


def test_the_environment_is_gymnasium_robotics_own(robotics, task):
    import gymnasium

    gymnasium.register_envs(robotics)
    flat, own = make_environment(task.benchmark.environment), make_environment(MAZES[task.name].environment)
    assert flat.spec.max_episode_steps == own.spec.max_episode_steps
    assert flat.unwrapped.dt == task.control.control_dt
    np.testing.assert_array_equal(flat.action_space.low, task.control.limits.low)
    np.testing.assert_array_equal(flat.action_space.high, task.control.limits.high)
    rng = np.random.default_rng(0)
    found, expected = flat.reset(seed=3)[0], own.reset(seed=3)[0]
    for _ in range(20):
        assert flat.observation_space.contains(found)
        np.testing.assert_array_equal(found, np.concatenate((expected["observation"], expected["desired_goal"])))
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        found, expected = flat.step(action)[0], own.step(action)[0]
    flat.close()
    own.close()


def test_the_walls_are_the_environments(robotics, task):
    ant = f"ant{task.name.removeprefix('point')}"
    for name in (task.name, ant):
        maze, environment = MAZES[name], FlatMaze(name)
        own = environment.maze.maze
        np.testing.assert_array_equal(maze.walls, [[cell == 1 for cell in row] for row in own.maze_map])
        for cell in np.argwhere(~maze.walls):
            np.testing.assert_allclose(maze.centre(tuple(cell)), own.cell_rowcol_to_xy(cell))
            assert maze.cell(maze.centre(tuple(cell)) + 0.4 * maze.body.cell_size) == tuple(cell)
        assert environment.observation_space.contains(environment.reset(seed=0)[0])
        inner = environment.maze.point_env if name == task.name else environment.maze.ant_env
        assert inner.dt == pytest.approx(maze.body.control_dt)
        environment.close()


def test_a_goal_and_a_start_may_be_asked_for(robotics):
    environment = FlatMaze(UMAZE)
    observation, _ = environment.reset(seed=0, options={"goal": (-0.9, -1.2), "reset_cell": (1, 3)})
    np.testing.assert_array_equal(observation[4:], (-0.9, -1.2))
    assert environment.map.cell(observation[:2]) == (1, 3)
    np.testing.assert_array_equal(environment.step(np.zeros(2, np.float32))[0][4:], (-0.9, -1.2))
    observation, _ = environment.reset(seed=0, options={"goal_cell": np.array([3, 2])})
    assert environment.map.cell(observation[4:]) == (3, 2)
    environment.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"goal": (0.0, 0.0)}, r"the goal \(0, 0\) m is in a wall of pointmaze-umaze, row 2, column 2 of 5 x 5 cells"),
        ({"goal": (0.0, 9.0)}, r"is outside of pointmaze-umaze, row -7.*such as \(1, 1\), which is \(-1, 1\) m"),
        ({"goal_cell": (2, 1)}, "the goal_cell is in a wall of pointmaze-umaze, row 2, column 1"),
        ({"reset_cell": (-1, 1)}, "the reset_cell is outside of pointmaze-umaze"),
        ({"goal_cell": (1.5, 1)}, "expected two whole numbers, row and column"),
        ({"goal": (np.nan, 1)}, r"expected x and y \[m\]"),
        ({"goal": (1, 1), "goal_cell": (1, 1)}, "goal and goal_cell; give one of them"),
        ({"aim": (1, 1)}, "no option aim of a reset; it has goal, goal_cell, reset_cell"),
    ],
)
def test_a_place_where_no_point_can_be_is_refused(robotics, options, said):
    environment = FlatMaze(UMAZE)
    with pytest.raises(ValueError, match=said):
        environment.reset(options=options)
    environment.close()


def test_a_goal_in_a_wall_is_refused_before_there_is_a_plan(policy_of):
    with pytest.raises(ObservationError, match=r"the goal \(0, 0\) m is in a wall of pointmaze-umaze"):
        policy_of("dnk", TASKS[UMAZE]()).decide(np.zeros(6))


@pytest.mark.slow
def test_demonstrations_reach_their_goals(robotics, task, monkeypatch):
    monkeypatch.setattr(demonstrations, "EPISODES_PER_CHUNK", 12)
    episodes, counts = chunk(demonstrate_point, task.name, 0, 1)
    again, _ = chunk(demonstrate_point, task.name, 0, 1)
    assert len(episodes) > 0.9 * counts["starts"]
    for episode, same in zip(episodes, again, strict=True):
        np.testing.assert_array_equal(episode.observations, same.observations)
        np.testing.assert_array_equal(episode.actions, same.actions)
        assert episode.terminated
        assert len(episode) <= MAZES[task.name].episode_steps
        assert task.control.goal_reached(episode.observations[-1])
        assert np.ptp(episode.observations[:, 4:], axis=0).max() == 0
    cells = {MAZES[task.name].cell(o[:2]) for episode in episodes for o in episode.observations}
    assert not any(MAZES[task.name].walls[cell] for cell in cells)
    assert sum(counts.values()) == len(episodes) + counts["refused: the goal was not reached in time"] + 12


def test_the_reference_is_the_demonstrator_from_evaluations_starts(robotics, task):
    seeds = range(FIRST_SEED, FIRST_SEED + 3)
    records = reference(task.name, seeds)
    assert [r["return_raw"] for r in records] == [1.0] * 3
    for record, seed in zip(records, seeds, strict=True):
        assert record["success"] == 1.0
        assert record["steps"] == record["steps_to_goal"] < MAZES[task.name].episode_steps
        assert record["steps"] > 5
        assert task.first_observation(seed).shape == (6,)


class Demonstrated:
    """Decides by the actions of the demonstration with this seed, one after another, and by its last one after that."""

    def __init__(self, name, seed):
        self.control, environment = CONTROL_SPECS[name](), FlatMaze(name, ends_at_goal=False)
        self.actions, self.at = demonstrate_point(environment, seed, 300).actions, 0
        environment.close()

    def reset(self, _seed):
        self.at = 0

    def act(self, observations):
        self.at += 1
        return np.tile(self.actions[min(self.at, len(self.actions)) - 1], (len(observations), 1)).astype(float)

    def predict_action_chunk(self, observations):
        return self.act(observations)[:, None]

    def decide(self, observation):
        action = self.act(observation[None])[0]
        return Decision(action, np.zeros((1, 6)), np.zeros((1, 1, 6)), np.zeros(1), {"total": 0.0})


def test_a_robot_that_reaches_its_goal_has_arrived(robotics):
    """The environment ends there, which is no fall."""
    task, clock = TASKS[UMAZE](), ChargedClock()
    robot = task.environment(4, clock)
    log = run_episode(robot, clock, Demonstrated(UMAZE, 4), task.control, timeout=3.0)
    assert (log.success, log.outcome) == (True, "arrived")
    assert task.measure(robot, 4) == {"return_raw": 1.0, "return_normalised": 1.0}


# ---- the whole path ----


def test_from_demonstrations_to_success_rates(robotics, tmp_path, monkeypatch):
    """Every stage; in episodes a demonstration's actions stand in for the planners', and reach its own goal alone."""
    preset, task = presets.load("pointmaze-umaze-tiny"), TASKS[UMAZE]()
    make(tmp_path, preset, task, (), "cpu")
    assert preset_of(task_of(tmp_path)) == "pointmaze-umaze-small"
    monkeypatch.setattr(returns, "WARM_UP", 1)
    monkeypatch.setattr(rollouts, "policy_of", lambda *_: Demonstrated(UMAZE, FIRST_SEED))
    rows = {"teacher", "teacher-unselected", "dnk", "dnk-unselected"}
    assert {entry.row for entry in evaluation_variants(tmp_path, preset.evaluate)} == rows | {"dnk-engine"}
    folder = evaluate(tmp_path, replace(preset.evaluate, workers=1, engines=()), "test")  # an engine takes seconds
    records = read_records(folder / EPISODES)
    assert {r["row"] for r in records} == rows
    for record in records:
        reached = record["episode"] == 0  # the other start is another demonstration's
        assert (record["return_raw"], record["return_normalised"], record["fell"]) == (reached, reached, False)
        assert (record["steps"] < 300) == reached
    notes = " ".join(read_experiment(folder / "comparison.json")["notes"])
    assert "at most 300 steps" in notes
    assert "returns not normalised" in notes
    assert "the mean return is the success rate" in notes


def test_a_film_of_a_goal_that_was_reached_shows_no_fall(robotics):
    actions, fell = act(Demonstrated(UMAZE, 4), TASKS[UMAZE]().benchmark.environment, 4)
    assert len(actions) < 300
    assert not fell


def test_behaviour_policies_are_refused_where_there_is_a_demonstrator(tmp_path):
    with pytest.raises(ValueError, match="'pointmaze-umaze' has a planner of its own"):
        Collect(run=tmp_path, task=UMAZE, amount=1, behaviours=(tmp_path / "actor.npz",))()
