"""A planner of ours collects data: seeds, turns, bodies that differ, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.commands.stages import Collect
from onestride.data.actors import Noisy, Scripted, read_behaviours
from onestride.data.minari import read_dataset
from onestride.files import CheckpointError
from onestride.networks.normalizer import Normalizer
from onestride.policy.behaviour import planner_behaviour
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.robot.limits import Limits
from onestride.runs.collecting import behaviour_stage
from onestride.runs.run import data_identity
from onestride.tasks import TASKS, collect_actors
from onestride.tasks.collect_actors import behaviour_source
from onestride.tasks.lockstep import Lockstep, make_environment

TASK = TASKS["hopper-v5"]()
STEPS = 60  # of a chunk


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch):
    monkeypatch.setattr(collect_actors, "CHUNK", STEPS)
    monkeypatch.setattr(collect_actors, "WIDTH", 3)


def save_planner(folder, task=TASK, seed=0, candidates=2, **fields):
    """An untrained student of plans of one row, or of the task's; returns its folder."""
    torch.manual_seed(seed)
    task = task.with_control(horizon=1) if task.plans.starts_with_observation else task
    generator = make_generator(task, "mlp", {"latent_dim": 8, "hidden": 8})
    sizes = (task.control.transition_dim, task.control.transition_dim, task.context_dim, task.context_dim)
    normalizer = Normalizer(*(torch.full((size,), value) for size, value in zip(sizes, (0, 1.0, 0, 1.0), strict=True)))
    Policy(task, generator, normalizer, candidates=candidates, **fields).save(folder, {"id": str(seed)})
    return folder


@pytest.fixture
def planner(tmp_path):
    return save_planner(tmp_path / "run-a" / "mlp-0")


def still(observation, rng):
    """A demonstrator by hand."""
    return np.zeros(TASK.control.action_dim) + 0.01 * rng.standard_normal()


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.observations, y.observations)
        np.testing.assert_array_equal(x.actions, y.actions)


# ---- a planner acts ----


@pytest.mark.parametrize("width", [1, 2, 7])
def test_an_episode_is_the_planners_alone_whatever_runs_beside_it(planner, width, monkeypatch):
    """Start and candidates come from one stream that seed, chunk and number name."""
    monkeypatch.setattr(collect_actors, "WIDTH", width)
    episodes, counts = behaviour_source(TASK, [planner_behaviour(planner, TASK.control)])(5, 2)
    assert counts == {"steps of run-a/mlp-0": STEPS} == {"steps of run-a/mlp-0": sum(map(len, episodes))}
    policy = Policy.from_pretrained(planner, selector=unselected, candidates=1)
    for number in (0, len(episodes) - 1):
        stream = np.random.default_rng((5, 2, number))
        env = make_environment("Hopper-v5")
        observation, _ = env.reset(seed=int(stream.integers(2**31)))
        for action in episodes[number].actions:
            policy.reset(int(stream.integers(2**63)))
            np.testing.assert_array_equal(action, policy.decide(observation).action.astype(np.float32))
            observation, *_ = env.step(action)
        env.close()


def test_its_noise_is_fresh_at_every_step(planner):
    behaviour = planner_behaviour(planner, TASK.control)
    stream = np.random.default_rng(0)
    seen = np.zeros((1, TASK.control.observation_dim))
    first, second = behaviour.act(seen, [stream]), behaviour.act(seen, [stream])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(behaviour.act(seen, [np.random.default_rng(0)]), first)


def test_without_a_selector_it_draws_one_candidate_and_with_one_as_many_as_it_has(planner, monkeypatch):
    assert planner_behaviour(planner, TASK.control).policy.candidates == 1

    def score(plans, observation, frame):
        return -plans[..., 0, TASK.control.state_dim]

    ranked = replace(TASK, score=score)
    monkeypatch.setitem(TASKS, "hopper-v5", lambda: ranked)
    behaviour = planner_behaviour(planner, ranked.control)
    assert behaviour.policy.candidates == 2
    assert behaviour.policy.selector is score


@pytest.mark.slow
def test_chunks_and_history_are_those_of_an_evaluation(tmp_path):
    pytest.importorskip("gym_pusht")
    task = TASKS["pusht"]()
    behaviour = planner_behaviour(save_planner(tmp_path / "run" / "mlp-0", task), task.control)
    (episode,), _ = behaviour_source(task, [behaviour], STEPS)(0, 0)
    stream = np.random.default_rng((0, 0, 0))
    start = int(stream.integers(2**31))

    def act(seen, _):
        behaviour.policy.reset(int(stream.integers(2**63)))
        return behaviour.policy.predict_action_chunk(seen)

    (wanted,) = Lockstep(task.benchmark.environment, 1).roll([start], act, task.control.n_obs_steps)
    np.testing.assert_array_equal(episode.actions, wanted.actions[:STEPS])
    np.testing.assert_array_equal(episode.observations, wanted.observations[: STEPS + 1])


@pytest.mark.slow
def test_it_collects_where_the_task_has_a_demonstrator_too(tmp_path):
    """Steps of its own way; an actor's file is the demonstrator's matter."""
    pytest.importorskip("gymnasium_robotics")
    folder = save_planner(tmp_path / "run" / "mlp-0", TASKS["pointmaze-umaze"]())
    Collect(run=tmp_path / "b", task="pointmaze-umaze", amount=STEPS, behaviours=(folder,))()
    assert sum(len(e) for e in read_dataset(tmp_path / "b" / "data")) == STEPS
    with pytest.raises(ValueError, match="has a planner of its own"):
        Collect(run=tmp_path / "c", task="pointmaze-umaze", amount=1, behaviours=(tmp_path / "actor.npz",))()


# ---- in a run ----


@pytest.mark.slow
def test_half_is_the_experts_and_half_the_planners_and_the_run_says_so(planner, tmp_path, monkeypatch):
    (tmp_path / "hand.py").write_text("import numpy as np\n\ndef still(observation, rng):\n    return np.zeros(3)\n")
    words = [tmp_path / "hand.py:still", type(tmp_path)("noise=0.05"), planner]
    report = behaviour_stage(tmp_path / "b", TASK, words, 4 * STEPS, 3)
    assert report["counts"] == {"steps of still+noise=0.05": 2 * STEPS, "steps of run-a/mlp-0": 2 * STEPS}
    assert [each["name"] for each in report["behaviours"]] == ["still+noise=0.05", "run-a/mlp-0"]
    made = list(read_dataset(tmp_path / "b" / "data"))
    behaviour_stage(tmp_path / "c", TASK, words, 4 * STEPS, 3)
    same(made, list(read_dataset(tmp_path / "c" / "data")))
    assert data_identity(tmp_path / "b") == data_identity(tmp_path / "c")
    behaviour_stage(tmp_path / "b", TASK, words, 4 * STEPS, 3)  # it is there already
    save_planner(planner, seed=1)
    with pytest.raises(CheckpointError, match="holds a dataset made with other settings"):
        behaviour_stage(tmp_path / "b", TASK, words, 4 * STEPS, 3)


def test_its_identity_is_what_it_does_not_where_or_when_it_was_trained(planner, tmp_path):
    twin = save_planner(tmp_path / "run-b" / "mlp-0")
    other = save_planner(tmp_path / "run-c" / "mlp-0", seed=1)
    identities = [planner_behaviour(each, TASK.control).identity for each in (planner, twin, other)]
    assert identities[0] == identities[1] != identities[2]


# ---- another body ----


def test_a_planner_of_a_like_body_acts_and_it_is_said(planner, capsys):
    other = TASKS["hopper-v4"]()
    behaviour = planner_behaviour(planner, other.control)
    assert "was trained for 'hopper-v5' and acts in 'hopper-v4'" in " ".join(capsys.readouterr().err.split())
    episodes, _ = behaviour_source(other, [behaviour])(0, 0)
    env = make_environment("Hopper-v4")
    env.reset(seed=int(np.random.default_rng((0, 0, 0)).integers(2**31)))
    np.testing.assert_array_equal(env.step(episodes[0].actions[0])[0].astype(np.float32), episodes[0].observations[1])
    env.close()


@pytest.mark.parametrize(
    ("of", "to", "said"),
    [
        ("hopper-v5", "walker2d-v5", r"numbers of an observation \(11, not 17\), numbers of an action \(3, not 6\);"),
        ("walker2d-v5", "halfcheetah-v5", r"control period \(0\.008 s, not 0\.05 s\);"),
    ],
)
def test_a_planner_of_an_unlike_body_is_refused(tmp_path, of, to, said):
    """Also where its shapes would fit."""
    folder = save_planner(tmp_path / "run" / "mlp-0", TASKS[of]())
    with pytest.raises(CheckpointError, match=rf"task '{of}' and cannot act in '{to}', which differs in .*{said}"):
        planner_behaviour(folder, TASKS[to]().control)


def test_a_planner_of_a_body_with_other_limits_is_refused(planner):
    strong = TASK.with_control(name="strong", limits=Limits(np.full(3, -2.0), np.full(3, 2.0)))
    with pytest.raises(CheckpointError, match="cannot act in 'strong', which differs in wider limits of actions; name"):
        planner_behaviour(planner, strong.control)


def test_a_run_in_place_of_one_of_its_planners_is_refused(planner):
    with pytest.raises(CheckpointError, match=r"run-a is a run: name one of its planners, .*run-a/mlp-0"):
        planner_behaviour(planner.parent, TASK.control)
    (empty := planner.parent / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        planner_behaviour(empty, TASK.control)


# ---- noise and words ----


def test_noise_is_added_to_any_behaviour_from_the_rows_own_generator():
    quiet = Scripted("still", lambda observation, rng: np.full(3, 0.5), "0")
    noisy = Noisy(quiet, 0.1)
    actions = noisy.act(np.zeros((5000, 11)), [np.random.default_rng(i) for i in range(5000)])
    np.testing.assert_allclose(actions.mean(0), 0.5, atol=5e-3)
    np.testing.assert_allclose(actions.std(0), 0.1, rtol=0.03)
    np.testing.assert_array_equal(noisy.act(np.zeros((1, 11)), [np.random.default_rng(7)])[0], actions[7])
    assert noisy.identity != quiet.identity != Noisy(quiet, 0.2).identity != noisy.identity


def test_actions_stay_within_the_limits():
    wild = Noisy(Scripted("still", still, "0"), 1.0)
    episodes, _ = behaviour_source(TASK, [wild])(0, 0)
    actions = np.concatenate([e.actions for e in episodes])
    assert (np.abs(actions) <= 1).all()
    assert (np.abs(actions) == 1).any()


def test_a_folder_with_noise_is_a_noisy_planner(planner):
    path = type(planner)
    made = read_behaviours(
        [planner, path("noise=0.1"), planner], lambda folder: planner_behaviour(folder, TASK.control)
    )
    assert [each.name for each in made] == ["run-a/mlp-0+noise=0.1", "run-a/mlp-0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["noise=0.1"], "name it after the behaviour, once"),
        (["PLANNER", "noise=0.1", "noise=0.2"], "name it after the behaviour, once"),
        (["PLANNER", "noise=lots"], r"noise=lots: expected a standard deviation above 0"),
        (["PLANNER", "noise=-1"], "expected a standard deviation above 0"),
        (["PLANNER", "noise=inf"], "expected a standard deviation above 0"),
        (["PLANNER", "raw"], "holds its own normaliser: leave raw away"),
    ],
)
def test_words_that_cannot_be_are_refused(planner, words, said):
    given = [planner if word == "PLANNER" else type(planner)(word) for word in words]
    with pytest.raises(CheckpointError, match=said):
        read_behaviours(given, lambda folder: planner_behaviour(folder, TASK.control))
