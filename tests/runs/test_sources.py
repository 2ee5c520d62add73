"""A run with a source: contexts of every window, planners of both bodies, pairs that carry what they were asked."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from onestride.checkpoint import load_config
from onestride.data.episode import Episode
from onestride.data.minari import write_dataset
from onestride.engine.engine import Engine
from onestride.evaluation.entries import Entry, as_trained
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.methods.dynamics import ContextsConfig, DynamicsModel, unit_range
from onestride.methods.score_distillation import ONEDP_S, ScoreDistillationConfig
from onestride.policy.policy import Policy
from onestride.runs.contexts import Steps, columns_of, load_contexts
from onestride.runs.learning import data_of, task_for
from onestride.runs.pairs import load_pairs
from onestride.runs.presets import off_dynamics as presets
from onestride.runs.run import material_of, materials_of, task_of
from onestride.runs.sources import take_source
from onestride.runs.stages import run_stage
from onestride.training.config import TrainConfig
from onestride.training.datasets import Stratified

TASK = "halfcheetah-v5-mass-14-to-7"
CLASSIFIER = TrainConfig(steps=400, batch_size=128, learning_rate=1e-2, ema_decay=0.9, precision="32-true")
TARGET = presets.target(TASK, "tiny")


def stage(name, **changes):
    made = TARGET.stage(name)
    if made.training is not None:
        changes.setdefault("training", replace(made.training, steps=6, warmup=2))
    return replace(made, **changes)


def episodes(count, steps, push, seed):
    """Of a body that gets that much of its actions."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        acted = rng.uniform(-1, 1, (steps, 6))
        seen = np.zeros((steps + 1, 17))
        seen[1:, :6] = np.cumsum(push * acted, 0)
        yield Episode(seen, acted, acted[:, 0].copy(), False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source run with its planner, and a run of the lighter body with the source beside it."""
    folder = tmp_path_factory.mktemp("bodies")
    for name, task, count, push in (("source", "halfcheetah-v5", 6, 0.1), ("target", TASK, 4, 0.3)):
        (folder / name).mkdir()
        write_dataset(
            folder / name / "data", episodes(count, 300, push, count), count, {"task": task}, Box(-1.0, 1.0, (6,))
        )
    planner = presets.source("halfcheetah-v5", "tiny").stage("return-diffuser")
    run_stage(folder / "source", replace(planner, training=replace(planner.training, steps=6, warmup=2)))
    take_source(folder / "target", folder / "source")
    run_stage(folder / "target", stage("contexts", training=CLASSIFIER))
    return folder


@pytest.mark.slow
def test_the_source_comes_with_its_planner_and_comes_once(made):
    run = made / "target"
    assert (run / "source").is_dir()
    assert load_config(run / "source-diffuser-0")["task"] == "halfcheetah-v5"
    assert take_source(run, made / "source") == []
    one = (made / "source" / "data" / "data" / "main_data.hdf5").stat()
    assert one.st_ino == (run / "source" / "data" / "main_data.hdf5").stat().st_ino  # a link, no copy


@pytest.mark.slow
def test_every_window_of_both_bodies_is_scored_and_bodies_are_told_apart(made):
    run, columns = made / "target", columns_of(made / "target")
    for of in ("data", "source"):
        windows = len(material_of(run, task_of(run), of).window_source)
        assert {len(columns[f"{of}.{name}"]) for name in ("dynamics", "inverse")} == {windows}
    assert -1 <= columns["source.dynamics"].min() < columns["data.dynamics"].max() <= 1
    assert columns["data.dynamics"].mean() - columns["source.dynamics"].mean() > 0.5
    inverse = torch.cat((columns["data.inverse"], columns["source.inverse"]))
    assert (inverse.min(), inverse.max()) == (0, 1)
    model = load_contexts(run / "contexts")
    assert model.config == TARGET.stage("contexts").config


def test_both_bodies_are_normalised_alike_and_weigh_half(made):
    run = made / "target"
    own, source = materials_of(run, task_of(run), "both")
    assert torch.equal(own.normalizer.mean, source.normalizer.mean)
    returns = unit_range([each.returns(0.99, -100.0) for each in (own, source)])
    (folder,) = run_stage(run, stage("off-dynamics"))
    policy = Policy.from_pretrained(folder)
    assert torch.equal(policy.normalizer.mean, own.normalizer.mean)
    assert {name: value.item() for name, value in policy.asked.items()} == {"return": 1, "dynamics": 1, "inverse": 0}
    assert max(float(each.max()) for each in returns) == 1.0


@pytest.mark.parametrize("name", ["return-diffuser", "joint-diffuser", "labelled-diffuser"])
def test_what_the_paper_compares_with_trains_and_asks(made, name):
    (folder,) = run_stage(made / "target", stage(name))
    policy = Policy.from_pretrained(folder)
    assert set(policy.asked) == {"return"} | ({"label"} if name == "labelled-diffuser" else set())
    policy.selector = lambda plans, observation, frame: plans.new_zeros(plans.shape[:2])
    assert np.isfinite(policy.decide(np.zeros(17)).action).all()


def test_fine_tuning_begins_with_the_sources_weights(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "target", run)
    training = replace(stage("finetuned-diffuser").training, steps=1, learning_rate=1e-12, ema_decay=0.0)
    (folder,) = run_stage(run, stage("finetuned-diffuser", training=training))
    source, tuned = (Policy.from_pretrained(run / name) for name in ("source-diffuser-0", folder.name))
    for mine, theirs in zip(tuned.generator.parameters(), source.generator.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    assert torch.equal(tuned.normalizer.mean, source.normalizer.mean)
    shutil.rmtree(run / "source-diffuser-0")
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="source-diffuser-0 is not trained yet"):
        run_stage(run, stage("finetuned-diffuser"))


def test_the_inverse_models_action_replaces_the_plans(made):
    run = made / "target"
    run_stage(run, stage("off-dynamics-score"))
    (folder,) = run_stage(run, stage("off-dynamics-inverse-action"))
    score, inverse = (Policy.from_pretrained(run / name).generator for name in ("off-dynamics-score-0", folder.name))
    prior = torch.randn(3, 4, 23, generator=torch.Generator().manual_seed(0))
    asked = {"conditions": {"return": torch.ones(1, 1), "dynamics": torch.ones(1, 1)}}
    one, other = (each.sample(prior, torch.zeros(3, 0), **asked) for each in (score, inverse))
    torch.testing.assert_close(other[:, 1:], one[:, 1:])
    torch.testing.assert_close(other[:, 0, :17], one[:, 0, :17])
    torch.testing.assert_close(other[:, 0, 17:], inverse.between(one[:, :2])[:, 0])


def test_a_student_is_asked_as_its_planner_was(made):
    run = made / "target"
    if not (run / "off-dynamics-0").exists():
        run_stage(run, stage("off-dynamics"))
    run_stage(run, stage("pairs"))
    pairs = load_pairs(run / "pairs")
    asked = {name: pairs[f"condition.{name}"][:, 0] for name in ("return", "dynamics", "inverse")}
    gone = torch.stack([value.isnan() for value in asked.values()])
    assert float(gone.all(0).float().mean()) == pytest.approx(0.125 + 0.875 / 64, abs=0.03)
    assert float(gone[0].float().mean()) == pytest.approx(0.125 + 0.875 / 4, abs=0.04)
    there = asked["dynamics"][~gone[1]]
    assert (float(there.min()), float((there == 1).float().mean())) == (
        pytest.approx(-1, abs=0.05), pytest.approx(1 / 3, abs=0.05),
    )  # fmt: skip
    (folder,) = run_stage(run, stage("dnk"))
    policy, teacher = Policy.from_pretrained(folder), Policy.from_pretrained(run / "off-dynamics-0")
    assert (policy.nfe, policy.candidates) == (1, 1)  # nobody ranks, and it is exported so
    assert np.isfinite(Engine.from_policy(policy, "torch").decide(np.zeros(17)).action).all()
    assert {k: v.item() for k, v in policy.asked.items()} == {k: v.item() for k, v in teacher.asked.items()}
    with pytest.raises(ValueError, match="condition 'dynamics' is -2, expected -1 to 1"):
        policy.ask(dynamics=-2.0)
    entry = Entry(Variant(method="dnk", selector="none", asked=(("dynamics", 0.5),)), folder)
    assert as_trained(entry, "cpu").asked["dynamics"].item() == 0.5
    assert (entry.row, entry.variant.label) == ("dnk-dynamics-0.5-unselected", "DNK, dynamics 0.5 (unselected)")


def test_a_student_of_its_score_is_asked_as_its_planner_was_and_learns_of_both_bodies(made):
    run = made / "target"
    if not (run / "off-dynamics-0").exists():
        run_stage(run, stage("off-dynamics"))
    (folder,) = run_stage(run, stage("onedp-s"))
    policy, teacher = Policy.from_pretrained(folder), Policy.from_pretrained(run / "off-dynamics-0")
    assert (policy.nfe, policy.candidates, load_config(folder)["kind"]) == (1, 1, "onedp-s")
    assert {k: v.item() for k, v in policy.asked.items()} == {k: v.item() for k, v in teacher.asked.items()}
    assert torch.equal(policy.normalizer.mean, teacher.normalizer.mean)
    config = ScoreDistillationConfig(teacher="off-dynamics-0")
    task = task_for(run, ONEDP_S, config, None, None, "pairs")
    data, _ = data_of(run, task, ONEDP_S, config, "pairs", None, None)
    assert isinstance(data, Stratified)
    for name, value in teacher.generator.conditions.state_dict().items():
        assert torch.equal(policy.generator.conditions.state_dict()[name], value)
    engine = Engine.from_policy(policy, "torch")
    asked = []
    for setting in (-1.0, 1.0):
        policy.ask(dynamics=setting)
        engine.ask(dynamics=setting)
        policy.reset(0)
        engine.reset(0)
        asked.append(engine.decide(np.zeros(17)).action)
    assert not np.array_equal(*asked)


def test_what_cannot_be_is_said_before_any_work(made, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_dataset(run / "data", episodes(1, 60, 0.2, 0), 1, {"task": TASK}, Box(-1.0, 1.0, (6,)))
    with pytest.raises(CheckpointError, match=r"has no source.*onestride source OTHER_RUN"):
        run_stage(run, stage("contexts"))
    with pytest.raises(CheckpointError, match="has no source"):
        run_stage(run, stage("joint-diffuser"))
    take_source(run, made / "source")
    with pytest.raises(ValueError, match="1 episodes of the target are fewer than 2 folds"):
        run_stage(run, stage("contexts"))
    with pytest.raises(CheckpointError, match="contexts is not trained yet"):
        run_stage(run, stage("off-dynamics"))
    other = tmp_path / "hopper"
    other.mkdir()
    seen = [Episode(np.zeros((40, 11)), np.zeros((39, 3)), np.zeros(39), False)]
    write_dataset(other / "data", seen, 1, {"task": "hopper-v5"}, Box(-1.0, 1.0, (3,)))
    with pytest.raises(CheckpointError, match=r"'hopper-v5' \(11 numbers observed, 3 of an action\).*same shapes"):
        take_source(run, other)
    again = tmp_path / "again"
    again.mkdir()
    write_dataset(again / "data", episodes(3, 60, 0.3, 1), 3, {"task": "halfcheetah-v5"}, Box(-1.0, 1.0, (6,)))
    with pytest.raises(FileExistsError, match="holds another source"):
        take_source(run, again)


def test_episodes_too_short_for_a_window_run_into_no_other(tmp_path):
    """Of 5, 2 and 6 steps, and 3: windows have 4 rows, transitions are 16 all the same."""
    run = tmp_path / "run"
    run.mkdir()
    each = [next(episodes(1, steps, 0.2, steps)) for steps in (5, 2, 6, 3)]
    write_dataset(run / "data", each, 4, {"task": TASK}, Box(-1.0, 1.0, (6,)))
    source = material_of(run, task_of(run)).window_source
    steps = Steps.of(source, DynamicsModel(ContextsConfig(), 17, 6), 2, target=True)
    assert len(steps.inputs) == 16
    assert steps.fold.tolist() == [0] * 5 + [1] * 2 + [0] * 6 + [1] * 3
    acted = np.concatenate([episode.actions for episode in each])
    np.testing.assert_allclose(steps.inputs[:, 17:23], acted, atol=1e-6)
    np.testing.assert_allclose(steps.inputs[:, 23:29], 0.2 * acted, atol=1e-5)


def test_few_windows_are_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_dataset(run / "data", episodes(2, 3, 0.2, 0), 2, {"task": TASK}, Box(-1.0, 1.0, (6,)))
    with pytest.raises(ValueError, match="no episode is as long as a window of 4 steps: the longest has 3"):
        run_stage(run, stage("return-diffuser"))
