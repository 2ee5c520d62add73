"""Trials in scenes: every record kept, killed evaluations go on, planners join and are evaluated anew."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from onestride.evaluation import scenes
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.records import read_records
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.runs import collecting
from onestride.runs.settings import EvaluateConfig
from onestride.tasks import TASKS
from onestride.tensors import load_tensors

CONFIG = EvaluateConfig(trials=3, scene_seed=5, timeout=0.2)


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch):
    monkeypatch.setattr(scenes, "WARM_UP", 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_arm_policy):
    """A run with data, a teacher and a student that nobody trained."""
    run = tmp_path_factory.mktemp("arm") / "run"
    collecting.plan_stage(run, TASKS["kinova"](), 2, 0)
    for name, kind in (("teacher", "teacher"), ("dnk-0", "student")):
        make_arm_policy(kind).save(run / name, {"id": name})
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def tried(monkeypatch):
    """Numbers of the scenes of all trials that are run."""
    real, numbers = scenes.run_trial, []

    def counted(policy, task, scene, number, **settings):
        if tried.kill_at == len(numbers):
            raise KeyboardInterrupt
        numbers.append(number)
        return real(policy, task, scene, number, **settings)

    tried = Tried(numbers)
    monkeypatch.setattr(scenes, "run_trial", counted)
    return tried


class Tried:
    def __init__(self, numbers):
        self.numbers, self.kill_at = numbers, None


def records_of(run):
    return read_records(run / "evaluation" / "episodes.jsonl")


@pytest.mark.slow
def test_every_planner_meets_every_scene_in_turns(run):
    folder = evaluate(run, CONFIG, "test")
    assert folder == run / "evaluation"
    records = records_of(run)
    assert [(r["row"], r["scene"]) for r in records] == [(row, i) for i in range(3) for row in ("teacher", "dnk")]
    assert {r["nfe"] for r in records} == {1, 4}
    assert all(r["outcome"] in ("timeout", "collision", "arrived") for r in records)
    moved, _ = load_tensors(folder / "motion.safetensors")
    assert {"joints.teacher", "path.dnk", "times.dnk", "start", "goal", "obstacles"} <= set(moved)
    made = json.loads((folder / "comparison.json").read_text())
    assert {row: Variant.of(metrics) for row, metrics in made["rows"].items()} == {
        name: Variant(method=name, selector="task") for name in ("teacher", "dnk")
    }
    clearance = made["rows"]["dnk"]["min_clearance_mm"]
    assert clearance["mean"] == pytest.approx(np.mean([r["min_clearance_mm"] for r in records if r["row"] == "dnk"]))
    assert (clearance["n"], len(clearance["per_seed"])) == (3, 1)


@pytest.mark.slow
def test_on_wall_time_it_has_a_folder_of_its_own(run):
    config = EvaluateConfig(trials=1, clock="real", timeout=0.1)
    assert evaluate(run, config, "test") == run / "evaluation-real"


def test_a_killed_evaluation_goes_on_and_a_cut_line_is_run_again(run, tried):
    tried.kill_at = 3
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, CONFIG, "test")
    path = run / "evaluation" / "episodes.jsonl"
    path.write_text(path.read_text()[:-20])  # the kill came in the middle of a line
    tried.kill_at = None
    evaluate(run, CONFIG, "test")
    assert len(tried.numbers) - 3 == 4  # two whole records were kept
    assert sorted((r["row"], r["scene"]) for r in records_of(run)) == sorted(
        (row, i) for row in ("teacher", "dnk") for i in range(3)
    )


@pytest.mark.slow
def test_another_evaluations_folder_is_refused_unless_nothing_was_begun(run, tried):
    tried.kill_at = 0
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, EvaluateConfig(trials=40), "test")
    tried.kill_at = None
    evaluate(run, CONFIG, "test")
    before = (run / "evaluation" / "episodes.jsonl").read_bytes()
    for other in ({"trials": 2}, {"scene_seed": 6}, {"timeout": 0.3}):
        config = EvaluateConfig(**{"trials": 3, "scene_seed": 5, "timeout": 0.2, **other})
        with pytest.raises(CheckpointError, match="holds an evaluation under other settings"):
            evaluate(run, config, "test")
    assert (run / "evaluation" / "episodes.jsonl").read_bytes() == before


@pytest.mark.slow
def test_planners_trained_later_join_and_those_trained_anew_are_evaluated_anew(run, tried, make_arm_policy):
    evaluate(run, CONFIG, "test")
    first = records_of(run)
    make_arm_policy("student", operator="kdm").save(run / "kdm-0", {"id": "kdm-0"})
    evaluate(run, CONFIG, "test")
    assert records_of(run)[:6] == first
    assert [(r["row"], r["scene"]) for r in records_of(run)[6:]] == [("kdm", i) for i in range(3)]
    make_arm_policy("student", seed=1).save(run / "dnk-0", {"id": "another"})
    evaluate(run, CONFIG, "test")
    assert len(tried.numbers) == 12
    assert {(r["row"], r["checkpoint"]) for r in records_of(run)} == {
        ("teacher", "teacher"), ("dnk", "another"), ("kdm", "kdm-0"),
    }  # fmt: skip
    made = json.loads((run / "evaluation" / "comparison.json").read_text())
    assert {row: metrics["success"]["n"] for row, metrics in made["rows"].items()} == {"teacher": 3, "dnk": 3, "kdm": 3}


@pytest.mark.slow
def test_candidates_are_compared_with_the_teachers(run):
    config = EvaluateConfig(trials=8, timeout=0.05)
    folder = evaluate(run, config, "test")
    records = read_records(folder / "candidates.jsonl")
    assert len(records) == 16
    assert all(r["candidate_spread_mm"] > 0 for r in records)
    # The teacher is no way from itself; the untrained student's candidates are somewhere else.
    assert {r["teacher_distance_mm"] for r in records if r["row"] == "teacher"} == {0.0}
    assert all(r["teacher_distance_mm"] > 0 for r in records if r["row"] == "dnk")
    task = TASKS["kinova"]()
    starts = task.scenes(8, 0)
    both = task.showcase(starts)
    assert {r["scene"] for r in records if "side_left" in r} == set(both)
    made = json.loads((folder / "comparison.json").read_text())["rows"]["dnk"]
    assert (made["candidates_free"]["n"], made["side_left"]["n"]) == (8, len(both))
    tensors, header = load_tensors(folder / "candidates.safetensors")
    shown = json.loads(header["scenes"])
    assert shown == both[:6]
    assert tensors["paths.dnk"].shape == (len(shown), 8, 32, 3)
    # Every candidate starts where the arm is.
    np.testing.assert_allclose(tensors["paths.teacher"][0, :, 0], np.tile(starts[shown[0]].start, (8, 1)), atol=1e-4)
