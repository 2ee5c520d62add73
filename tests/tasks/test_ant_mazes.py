"""Ant mazes: the goal is the plan's context, and demonstrations need an actor that the user gives."""

from __future__ import annotations

import json
from itertools import count

import numpy as np
import pytest
import torch

from onestride.cli import main
from onestride.data.actors import Scripted, read_behaviour
from onestride.data.episode import Episode
from onestride.experiment import make
from onestride.policy.policy import Policy
from onestride.robot.control_spec import ObservationError
from onestride.runs import presets
from onestride.runs.run import metadata_of, preset_of
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.mazes import demonstrations
from onestride.tasks.mazes.demonstrations import TORQUE, demonstrate_ant
from onestride.tasks.mazes.maps import MAZES, goal_reached
from onestride.tasks.mazes.routes import routes
from onestride.tasks.reference import reference
from onestride.training.windows import make_windows

UMAZE, MEDIUM = "antmaze-umaze", "antmaze-medium"


def write_actor(path, inputs=29, outputs=8):
    """An actor of these sizes that knows nothing."""
    rng = np.random.default_rng(0)
    settings = {"activation": "relu", "squash": True, "clip_obs": None, "extra_action_noise_std": 0.0}
    np.savez(
        path,
        w0=rng.normal(size=(8, inputs)).astype(np.float32),
        b0=np.zeros(8, np.float32),
        w_mean=rng.normal(size=(outputs, 8)).astype(np.float32),
        b_mean=np.zeros(outputs, np.float32),
        w_logstd=np.zeros((outputs, 8), np.float32),
        b_logstd=np.full(outputs, -2.0, np.float32),
        obs_mean=np.zeros(inputs),
        obs_var=np.ones(inputs),
        metadata=np.frombuffer(json.dumps(settings).encode(), np.uint8),
    )
    return path


class Gliding:
    """A maze whose ant glides where the first two torques point, and cannot enter a wall."""

    def __init__(self, name, start, goal):
        self.name, self.map = name, MAZES[name]
        self.first = np.concatenate((self.map.centre(start), np.arange(27.0), self.map.centre(goal)))

    def reset(self, seed):
        self.observation = self.first.copy()
        return self.observation, {}

    def step(self, action):
        new = self.observation.copy()
        new[:2] += 0.1 * action[:2] / TORQUE
        self.observation = self.observation if self.map.walls[self.map.cell(new[:2])] else new
        reached = goal_reached(self.observation)
        return self.observation, float(reached), reached, False, {}


def test_the_demonstrator_sends_its_actor_along_each_of_the_ways():
    start, goal = (6, 1), (3, 4)
    given, taken = [], set()

    def towards(observation, rng):
        given.append(observation)
        return np.concatenate((observation[-2:] / np.hypot(*observation[-2:]), np.zeros(6)))

    actor = Scripted("towards", towards, "test")
    for seed in range(8):
        episode = demonstrate_ant(actor, Gliding(MEDIUM, start, goal), seed, 1000)
        assert episode.terminated
        cells = [MAZES[MEDIUM].cell(o[:2]) for o in episode.observations]
        taken.add(tuple(dict.fromkeys(cells)))
        assert len(episode) < 1.5 * 4 / 0.1 * len(set(cells))
    assert taken == set(routes(MEDIUM, start, goal))
    given = np.array(given)
    np.testing.assert_array_equal(given[:, :27], np.tile(np.arange(27.0), (len(given), 1)))
    np.testing.assert_allclose(np.hypot(*given[:, 27:].T), 10)


def test_a_window_has_the_goal_of_its_episode_as_context():
    task, rng = TASKS[UMAZE](), np.random.default_rng(0)
    observations = rng.normal(size=(51, 31)).astype(np.float32)
    observations[:, 29:] = [-4.0, 4.0]
    actions = rng.normal(size=(50, 8)).astype(np.float32)
    windows = make_windows([Episode(observations, actions, np.zeros(50), terminated=True)], task)
    assert windows.plans.shape == (50, 32, 37)
    assert (windows.context == torch.tensor([-4.0, 4.0])).all()
    np.testing.assert_array_equal(windows.plans[7, :, :29], observations[7:39, :29])
    np.testing.assert_array_equal(windows.plans[7, :, 29:], actions[7:39])
    given = task.encode(windows.observations)
    assert torch.equal(given.values, windows.plans.flatten(1)[:, task.plans.known_entries])
    assert torch.equal(given.context, windows.context)


def test_the_control_interface_is_the_tasks():
    for name in (each for each in MAZES if each.startswith("antmaze")):
        spec, task = CONTROL_SPECS[name](), TASKS[name]()
        for field in ("name", "observation_dim", "state_dim", "action_dim", "horizon", "control_dt", "layout"):
            assert getattr(spec, field) == getattr(task.control, field)
        spec.validate_observation(spec.example)
        plans = 3 * torch.randn(4, task.control.horizon, 37)
        commands = np.stack([spec.commands(plan, spec.example) for plan in plans.numpy()])
        np.testing.assert_array_equal(commands[:, 0], task.command(plans, None).numpy())
        with pytest.raises(ObservationError, match=f"is outside of {name}"):
            spec.validate_observation(np.concatenate((spec.example[:29], [0.0, 100.0])))


def test_an_actor_may_be_without_a_limit_of_its_observations(tmp_path):
    actor = read_behaviour(write_actor(tmp_path / "actor.npz"))
    assert actor.clip_obs == np.inf
    assert actor.act(1e3 * np.ones((1, 29))).shape == (1, 8)


@pytest.mark.parametrize(
    ("preset", "sizes", "said"),
    [
        ("antmaze-umaze-tiny", None, "needs one actor for its demonstrations, got 0: give with --behaviours one that"),
        ("antmaze-umaze-tiny", (11, 3), "maps 11 numbers to 3; task 'antmaze-umaze' needs an actor that walks an ant"),
        ("pointmaze-umaze-tiny", (29, 8), "task 'pointmaze-umaze' has a planner of its own"),
    ],
)
def test_another_actor_than_the_one_that_is_needed_is_refused_in_one_line(preset, sizes, said, tmp_path, capsys):
    given = () if sizes is None else ("--behaviours", str(write_actor(tmp_path / "actor.npz", *sizes)))
    with pytest.raises(SystemExit):
        main(["collect", "--preset", preset, "--run", str(tmp_path / "run"), *given])
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_from_an_actor_to_a_planner(tmp_path, monkeypatch):
    """Up to the teacher; an actor that knows nothing is taken to have reached its goal after thirty steps."""
    pytest.importorskip("gymnasium_robotics")
    steps, actor = count(1), write_actor(tmp_path / "actor.npz")
    monkeypatch.setattr(demonstrations, "goal_reached", lambda _observation: next(steps) % 30 == 0)
    monkeypatch.setattr(demonstrations, "EPISODES_PER_CHUNK", 8)
    run, task = tmp_path / "run", TASKS[UMAZE]()
    preset = presets.load("antmaze-umaze-tiny").without("pairs", "dnk")
    make(run, preset, task, (actor,), "cpu")
    metadata = metadata_of(run)
    assert metadata["behaviours"] == [{"name": "actor", "weights": read_behaviour(actor).identity}]
    assert metadata["counts"] == {"starts": 8, "one way": 8}
    assert preset_of(task) == "antmaze-umaze-small"
    decision = Policy.from_pretrained(run / "teacher").decide(task.control.example)
    assert decision.plan.shape == (32, 37)
    np.testing.assert_allclose(decision.plan[0, :29], task.control.example[:29], atol=1e-4)
    make(run, preset, task, (), "cpu")  # what is there goes on without the actor


@pytest.mark.slow
def test_the_reference_is_rolled_from_evaluations_starts(tmp_path):
    pytest.importorskip("gymnasium_robotics")
    actor = read_behaviour(write_actor(tmp_path / "actor.npz"))
    (record,) = reference(UMAZE, [100_000], [actor])
    assert (record["return_raw"], record["success"], record["steps"], record["fell"]) == (0.0, 0.0, 700, False)
    with pytest.raises(ValueError, match="needs one actor"):
        reference(UMAZE, [100_000])
    with pytest.raises(ValueError, match="does not act in an environment"):
        reference("pusht", [0])
