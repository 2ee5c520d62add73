"""Who stands in the table, and how each of them decides."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from onestride.evaluation.lineup import Entry, lineup, policy_of
from onestride.seals import seal
from onestride.tasks import TASKS
from tiny_run import CONFIG, ROWS


def test_rows_are_the_papers_and_crossed_and_unselected(run):
    entries = lineup(run, CONFIG)
    assert [e.row for e in entries] == ROWS
    assert {e.row: e.selector for e in entries} == {
        row: "none" if row.endswith("-unselected")
        else "returns" if row in ("teacher", "dnk-classifier", "kdm-classifier")
        else row.rpartition("-")[2] if row in ("teacher-mixture", "dnk-mixture", "dnk-first", "dnk-engine", "dnk-int8")
        else "iql"
        for row in ROWS
    }  # fmt: skip
    more = lineup(run, replace(CONFIG, teacher_seeds=3, crossed=("kdm",)))
    assert [e.seed for e in more if e.row == "teacher-iql"] == [0, 1, 2]  # one training, other noise and starts
    assert "dnk-classifier" not in {e.row for e in more}


def test_who_is_not_selected_draws_one_candidate(run):
    entry = Entry("dnk-unselected", 0, run / "dnk-0", "none")
    assert policy_of(run, entry, "cpu").candidates == 1
    assert policy_of(run, replace(entry, selector="iql"), "cpu").candidates == 64


def test_bfloat16_is_for_teachers_alone(run):
    found = {name: policy_of(run, Entry(name, 0, run / name, "iql"), "cpu", "bf16-mixed").precision
             for name in ("teacher", "dnk-0", "ct-0")}  # fmt: skip
    assert found == {"teacher": "bf16-mixed", "dnk-0": "32-true", "ct-0": "32-true"}


def test_an_engine_acts_as_its_policy_with_the_same_noise(run):
    entry = Entry("dnk", 0, run / "dnk-0", "iql")
    policy, engine = policy_of(run, entry, "cpu"), policy_of(run, replace(entry, selector="engine"), "cpu")
    observations = [TASKS["hopper-v5"]().first_observation(seed) for seed in range(5)]
    policy.reset(0)
    engine.reset(0)
    wanted = [policy.decide(observation).action for observation in observations]
    np.testing.assert_allclose(engine.act(np.stack(observations)), np.stack(wanted), atol=1e-4)


def test_the_papers_critic_judges_the_first_action_of_trainings_candidates(run):
    entry = Entry("dnk", 0, run / "dnk-0", "iql")
    policies = {s: policy_of(run, replace(entry, selector=s), "cpu") for s in ("iql", "mixture", "first", "none")}
    assert {s: policies[s].selector.scored_steps for s in ("iql", "mixture", "first")} == {
        "iql": 2,
        "mixture": 2,
        "first": 1,
    }
    hottest = {s: float(policy.temperature.max()) for s, policy in policies.items()}
    assert hottest == pytest.approx({"iql": 1.0, "mixture": 0.7, "first": 0.7, "none": 0.5})
    assert {s: policy.score_penalty is None for s, policy in policies.items()} == {
        "iql": False, "mixture": True, "first": True, "none": True
    }  # fmt: skip


def test_a_critic_that_ranks_as_in_training_has_no_row_for_that(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "iql" / "config.json"
    seal(config, json.loads(config.read_text()) | {"sampling": None})
    assert not [e.row for e in lineup(tmp_path / "run", CONFIG) if e.row.endswith("-mixture")]


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (3, 3), (None, 4)])
def test_an_entry_may_have_other_candidates_and_a_teacher_other_steps(run, steps, calls):
    policy = policy_of(run, Entry("teacher-ddim", 0, run / "teacher", "iql", candidates=5, steps=steps), "cpu")
    asked = []
    policy.generator.planner.network.register_forward_hook(lambda m, given, out: asked.append(len(given[0])))
    policy.decide(TASKS["hopper-v5"]().first_observation(0))
    assert asked == [5] * calls
    assert policy.generator.nfe == calls
