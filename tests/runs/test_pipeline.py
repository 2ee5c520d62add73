"""The stages of Table I from nothing on the tiny preset: one command each."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from onestride.checkpoint import load_config
from onestride.data.minari import read_dataset, read_metadata
from onestride.evaluation.entries import evaluation_variants, policy_of
from onestride.files import CheckpointError, exclusive
from onestride.methods.guided import GuidedPlanner
from onestride.policy.policy import Policy
from onestride.policy.store import GUIDE, SELECTOR
from onestride.runs import presets, stages
from onestride.seals import seal
from onestride.selectors.iql import CriticSelector
from onestride.tensors import load_unsealed
from tiny_run import CHUNK, CONFIG, PRESET, ROWS, copy_without, entry, keyed, records_of, stage, words


def test_the_data_has_the_steps_asked_for_half_of_each_policy(run):
    metadata = read_metadata(run / "data")
    assert metadata["task"] == "hopper-v5"
    assert metadata["total_steps"] == metadata["steps"] == sum(len(e) for e in read_dataset(run / "data")) == 2 * CHUNK
    assert metadata["counts"] == {"steps of calm": CHUNK, "steps of wild": CHUNK}
    assert [b["name"] for b in metadata["behaviours"]] == ["calm", "wild"]


def test_the_teacher_is_ranked_and_guided_by_the_return_model_students_by_the_critic(run):
    teacher = Policy.from_pretrained(run / "teacher", task="hopper-v5")
    assert isinstance(teacher.generator, GuidedPlanner)
    assert teacher.generator.weight == presets.load(PRESET).stage("teacher").guidance
    ranks, guides, trained = (
        load_unsealed(folder / "model.safetensors")[0]
        for folder in (run / "teacher" / SELECTOR, run / "teacher" / GUIDE, run / "returns")
    )
    assert all(torch.equal(ranks[name], value) and torch.equal(guides[name], value) for name, value in trained.items())
    for name in ("dnk-0", "kdm-0", "ct-0", "cd-0"):
        student = Policy.from_pretrained(run / name)
        assert isinstance(student.selector, CriticSelector)
        assert student.control.horizon == (1 if name in ("ct-0", "cd-0") else 32)


@pytest.mark.slow
def test_every_stage_again_changes_nothing(run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "evaluation" not in p.parts}
    for each in presets.load(PRESET).stages:
        stage(run, each.name)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "evaluation" not in p.parts} == before
    assert words(capsys.readouterr().err).count("trained already") == 8


def test_a_finished_training_that_was_damaged_is_said_with_what_to_do(run, tmp_path):
    """Left alone as trained already, it could never be mended."""
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "returns" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"was altered or cut short.*delete .*returns and run the same command"):
        stages.run_stage(tmp_path / "run", presets.load(PRESET).stage("returns"))


def test_checkpoints_name_their_training(run):
    ids = {load_config(run / n)["training"]["id"] for n in ("returns", "iql", "teacher", "dnk-0", "kdm-0", "ct-0")}
    assert len(ids) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [("collect", "data"), ("pairs", "pairs"), ("dnk", "dnk-0"), ("evaluate", "evaluation")]
)
def test_a_stage_that_another_process_is_at_work_on_is_refused(run, tmp_path, capsys, name, part):
    there = tmp_path / "run"
    copy_without(run, there, part)
    behaviours = ("--behaviours", str(run.parent / "calm.npz")) if name == "collect" else ()
    with exclusive(there / part), pytest.raises(SystemExit) as stop:
        stage(there, name, *behaviours)
    assert stop.value.code == 2
    assert f"another process is at work on {there / part}" in words(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "needs"),
    [("teacher", "onestride train returns"), ("dnk", "onestride train iql"), ("ct", "onestride train iql")],
)
def test_a_stage_before_its_time_says_what_comes_first(run, tmp_path, capsys, name, needs):
    shutil.copytree(run / "data", tmp_path / "run" / "data")
    if name == "dnk":
        for part in ("pairs", "teacher"):
            shutil.copytree(run / part, tmp_path / "run" / part)
    with pytest.raises(SystemExit) as stop:
        stage(tmp_path / "run", name)
    assert stop.value.code == 2
    assert needs in capsys.readouterr().err


def test_a_missing_critic_is_said_before_a_student_trains(run, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "train", lambda *_, **__: pytest.fail("it trains first"))
    there = tmp_path / "run"
    shutil.copytree(run, there)
    shutil.rmtree(there / "iql")
    for name in ("dnk", "ct"):
        with pytest.raises(CheckpointError, match="iql is not trained yet, and comes first: `onestride train iql"):
            stages.run_stage(there, presets.load(PRESET).stage(name), seeds=(7,))


@pytest.mark.slow
def test_a_critics_config_is_whole_when_it_is_there(run, tmp_path, monkeypatch):
    """Killed between the two, it was taken for one that judges a single row."""
    there = tmp_path / "run"
    copy_without(run, there, "iql")
    monkeypatch.setattr(stages, "seal", lambda *_: pytest.fail("it is written twice"))
    stage(there, "iql")
    assert load_config(there / "iql") == load_config(run / "iql") | {"training": load_config(there / "iql")["training"]}


def test_a_teacher_that_was_not_finished_is_said(run, tmp_path):
    there = tmp_path / "run"
    copy_without(run, there, "pairs")
    config = load_config(there / "teacher")
    del config["ranked_by"]
    seal(there / "teacher" / "config.json", config)
    with pytest.raises(CheckpointError, match=r"teacher has no selector, .*; repeat the command that trained it"):
        stages.pairs_stage(there, presets.load(PRESET).stage("pairs").config)


def test_how_the_critic_ranks_may_be_changed_without_training(run, tmp_path):
    there = tmp_path / "run"
    shutil.copytree(run, there)
    weights = (there / "iql" / "model.safetensors").read_bytes()
    stage(there, "iql", "--options.scored-steps", "1", "--options.temperature-penalty", "3.5")
    assert (there / "iql" / "model.safetensors").read_bytes() == weights
    assert "dnk-first" not in {e.row for e in evaluation_variants(there, CONFIG)}
    selector = policy_of(there, entry(there, "dnk-0"), "cpu").selector
    assert (selector.scored_steps, selector.options.sampling.temperature_penalty) == (1, 3.5)
    trained = (there / "dnk-0" / "model.safetensors").read_bytes()
    assert Policy.from_pretrained(there / "dnk-0").selector.scored_steps == 2
    stage(there, "dnk")
    follows = Policy.from_pretrained(there / "dnk-0").selector
    assert follows.options == selector.options
    assert (there / "dnk-0" / "model.safetensors").read_bytes() == trained


def test_a_trained_student_drives_the_body_that_does_not_wait(run, capsys):
    stage(run, "run", "--clock", "charged", "--timeout", "0.5")
    record = json.loads(capsys.readouterr().out)
    assert record.get("outcome") in ("fell", None)  # where time was up there is nothing to say
    assert not {"success", "completion_time_s"} & record.keys()  # it runs, and arrives nowhere
    assert record["executed_steps"] > 0
    assert {"return_raw", "return_normalised"} <= record.keys()


@pytest.mark.slow
def test_quickstart_takes_what_is_there_and_ends_with_a_report(run, tmp_path, capsys):
    """Data is not made again, nor asked for its policies; the evaluation is the preset's own."""
    copy_without(run, tmp_path / "run")
    stage(tmp_path / "run", "quickstart", "--no-pictures")
    printed = capsys.readouterr()
    assert words(printed.err).count("trained already") == 8
    assert str(tmp_path / "run" / "evaluation" / "comparison.json") in printed.out
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert set(keyed(records_of(tmp_path / "run" / "evaluation"))) == {(row, 0, n) for row in ROWS for n in range(2)}
