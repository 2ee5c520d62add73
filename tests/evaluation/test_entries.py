"""Who stands in the table, and how each of them decides."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from onestride.evaluation.entries import evaluation_variants, made_by, policy_of
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.runs.settings import EvaluateConfig
from onestride.seals import seal
from onestride.tasks import TASKS
from tiny_run import CONFIG, ROWS, entry


def test_rows_are_the_papers_and_crossed_and_unselected(run):
    entries = evaluation_variants(run, CONFIG)
    assert [e.row for e in entries] == ROWS
    variants = {e.row: e.variant for e in entries}
    assert variants["teacher"] == Variant(method="teacher", selector="returns")
    assert variants["dnk-first"] == Variant(method="dnk", selector="iql", sampling="training", scored_steps=1)
    more = evaluation_variants(run, replace(CONFIG, teacher_seeds=3, crossed=("kdm",)))
    assert [e.seed for e in more if e.row == "teacher-iql"] == [0, 1, 2]  # one training, other noise and starts
    assert "dnk-classifier" not in {e.row for e in more}


def test_a_teacher_in_fewer_steps_is_ranked_as_students_are_and_not_at_all(run):
    entries = evaluation_variants(run, replace(CONFIG, teacher_steps=(1, 2)))
    added = [e for e in entries if e.variant.steps is not None]
    wanted = [f"teacher-ddim-{steps}{how}" for steps in (2, 1) for how in ("", "-unselected")]
    assert [e.row for e in added] == wanted
    assert [e.row for e in entries if e not in added] == ROWS
    assert added[0].variant == Variant(method="teacher", selector="iql", steps=2)
    assert [policy_of(run, e, "cpu").nfe for e in added] == [2, 2, 1, 1]
    with pytest.raises(ValueError, match=r"asks for 5 steps of DDIM, and .*teacher has 4 noise levels"):
        evaluation_variants(run, replace(CONFIG, teacher_steps=(5,)))
    with pytest.raises(ValueError, match="numbers of at least 1"):
        replace(CONFIG, teacher_steps=(0,))


def test_a_teacher_without_noise_levels_has_no_row_in_fewer_steps(again):
    shutil.rmtree(again / "teacher")
    shutil.copytree(again / "ct-0", again / "teacher")
    entries = evaluation_variants(again, replace(CONFIG, teacher_steps=(1,)))
    assert "teacher" in {e.variant.method for e in entries}
    assert all(e.variant.steps is None for e in entries)


def test_in_scenes_every_planner_has_the_tasks_selector(run, tmp_path):
    entries = evaluation_variants(run, EvaluateConfig())
    assert [(e.row, e.variant.selector) for e in entries] == [
        (row, "task") for row in ("teacher", "dnk", "kdm", "cd", "ct")
    ]
    for folder in ("data", "teacher"):
        shutil.copytree(run / folder, tmp_path / "run" / folder)
    with pytest.raises(CheckpointError, match="needs a teacher and a student to compare, found: teacher"):
        evaluation_variants(tmp_path / "run", EvaluateConfig())


def test_who_is_not_selected_draws_one_candidate(run):
    assert policy_of(run, entry(run, "dnk-0", "none"), "cpu").candidates == 1
    assert policy_of(run, entry(run, "dnk-0"), "cpu").candidates == 64


def test_bfloat16_is_for_teachers_alone(run):
    found = {name: policy_of(run, entry(run, name), "cpu", "bf16-mixed").precision
             for name in ("teacher", "dnk-0", "ct-0")}  # fmt: skip
    assert found == {"teacher": "bf16-mixed", "dnk-0": "32-true", "ct-0": "32-true"}


def test_an_engine_acts_as_its_policy_with_the_same_noise(run):
    policy, engine = (policy_of(run, entry(run, "dnk-0", backend=name), "cpu") for name in ("torch", "engine"))
    observations = [TASKS["hopper-v5"]().first_observation(seed) for seed in range(5)]
    policy.reset(0)
    engine.reset(0)
    wanted = [policy.decide(observation).action for observation in observations]
    np.testing.assert_allclose(engine.act(np.stack(observations)), np.stack(wanted), atol=1e-4)


def test_the_papers_critic_judges_the_first_action_of_trainings_candidates(run):
    fields = {
        "iql": {}, "mixture": {"sampling": "training"}, "first": {"sampling": "training", "scored_steps": 1},
        "unselected": {"selector": "none"},
    }  # fmt: skip
    policies = {name: policy_of(run, entry(run, "dnk-0", **given), "cpu") for name, given in fields.items()}
    assert {s: policies[s].selector.scored_steps for s in ("iql", "mixture", "first")} == {
        "iql": 2,
        "mixture": 2,
        "first": 1,
    }
    hottest = {s: float(policy.temperature.max()) for s, policy in policies.items()}
    assert hottest == pytest.approx({"iql": 1.0, "mixture": 0.7, "first": 0.7, "unselected": 0.5})
    assert {s: policy.score_penalty is None for s, policy in policies.items()} == {
        "iql": False, "mixture": True, "first": True, "unselected": True
    }  # fmt: skip


def test_a_critic_that_ranks_as_in_training_has_no_row_for_that(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "iql" / "config.json"
    said = json.loads(config.read_text())
    seal(config, said | {"options": said["options"] | {"temperatures": []}})
    assert not [e.row for e in evaluation_variants(tmp_path / "run", CONFIG) if e.row.endswith("-mixture")]


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (3, 3), (None, 4)])
def test_a_variant_may_have_other_candidates_and_a_teacher_other_steps(run, steps, calls):
    policy = policy_of(run, entry(run, "teacher", candidates=5, steps=steps), "cpu")
    asked = []
    policy.generator.planner.network.register_forward_hook(lambda m, given, out: asked.append(len(given[0])))
    policy.decide(TASKS["hopper-v5"]().first_observation(0))
    assert asked == [5] * calls
    assert policy.generator.nfe == calls


def test_a_row_is_another_with_another_checkpoint_or_another_way_of_its_critic(again):
    entries = [entry(again, "dnk-0"), entry(again, "dnk-0", "none"), entry(again, "dnk-0", sampling="training")]

    def makers():
        return [made_by(again, entry) for entry in entries]

    ranked, alone, as_in_training = makers()
    assert alone == {"checkpoint": ranked["checkpoint"], "selector": None}
    config = json.loads((again / "iql" / "config.json").read_text())
    options = config["options"] | {"temperatures": [], "temperature_penalty": 0.0}
    seal(again / "iql" / "config.json", config | {"options": options})
    assert makers() == [{**ranked, "selector": as_in_training["selector"]}, alone, as_in_training]
    config["training"]["id"] = "another"
    seal(again / "iql" / "config.json", config)
    assert [new == old for new, old in zip(makers(), (ranked, alone, as_in_training), strict=True)] == [
        False, True, False,
    ]  # fmt: skip
