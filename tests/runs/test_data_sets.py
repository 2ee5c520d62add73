"""Data sets by name: medium and medium-expert of one body do not mix, nor do the hand's tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from onestride.commands.compare import Evaluate
from onestride.evaluation.provenance import provenance
from onestride.runs import presets
from onestride.runs.collecting import behaviour_stage
from onestride.runs.run import check_preset_matches_task, data_identity, preset_of
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.runs.stage import DataSet
from onestride.studies.dnk_table1 import paper_of
from onestride.tasks import TASKS, collect_actors
from tiny_run import write_behaviour

TASK = TASKS["hopper-v5"]()
MEDIUM = presets.load("hopper-medium-small").data


@pytest.fixture
def actors(tmp_path):
    return [Path(write_behaviour(tmp_path / f"{name}.npz", 0.1, i)) for i, name in enumerate(("one", "two"))]


@pytest.fixture
def collected(tmp_path, actors, monkeypatch):
    """A run with data by so many behaviours, of the preset's set."""
    monkeypatch.setattr(collect_actors, "CHUNK", 50)
    monkeypatch.setattr(collect_actors, "WIDTH", 2)

    def collect(name, count, data=None):
        behaviour_stage(tmp_path / name, TASK, actors[:count], 50 * count, 0, data)
        return tmp_path / name

    return collect


def check(run, preset):
    made = presets.load(preset)
    check_preset_matches_task(run, preset, made.task, made.data.name)


def test_a_data_sets_name_is_in_what_is_made_of_it(collected):
    plain, medium = collected("plain", 1), collected("run", 1, MEDIUM)
    assert data_identity(medium) == {**data_identity(plain), "dataset": "hopper-medium"}
    said = provenance(medium, TASK, ())
    assert said["data"]["dataset"] == "hopper-medium"
    assert "dataset" not in provenance(plain, TASK, ())["data"]
    assert paper_of({"experiment": "halfcheetah-v5", "config": provenance(plain, TASK, ())})
    assert not paper_of({"experiment": "halfcheetah-v5", "config": said})


def test_results_are_called_by_their_data_set(collected):
    def published_as(run, evaluate=None):
        return Evaluate(run=run, evaluate=evaluate or ReturnsConfig())._dataset()

    assert published_as(collected("mine", 1)) == "mine"
    assert published_as(collected("hopper", 1, MEDIUM)) == "hopper-medium"
    assert published_as(collected("hopper-medium-long", 1, MEDIUM)) == "hopper-medium-long"
    assert published_as(collected("arm", 1), EvaluateConfig()) is None


def test_medium_and_medium_expert_do_not_mix(collected):
    both, medium, unnamed = collected("both", 2), collected("medium", 1, MEDIUM), collected("unnamed", 1)
    for run, preset in ((both, "hopper-small"), (medium, "hopper-medium-tiny"), (medium, "gym-small")):
        check(run, preset)
    check(unnamed, "hopper-small")
    check(unnamed, "hopper-medium-small")  # from before there were names
    with pytest.raises(ValueError, match=r"is hopper-medium by one, and preset 'hopper-small' .*hopper-medium-small"):
        check(medium, "hopper-small")
    with pytest.raises(ValueError, match=r"is data by one, two, and preset 'hopper-medium-small' is of hopper-medium"):
        check(both, "hopper-medium-small")
    assert preset_of(TASK, "hopper-medium") == "hopper-medium-small"


def test_a_set_by_one_behaviour_is_made_by_one_and_of_its_task(tmp_path, actors):
    with pytest.raises(ValueError, match=r"'hopper-medium' is made by 1 behaviour, got 2 \(one, two\)"):
        behaviour_stage(tmp_path / "run", TASK, actors, 100, 0, MEDIUM)
    with pytest.raises(ValueError, match="'walker2d-medium' is not of task 'hopper-v5'"):
        behaviour_stage(tmp_path / "run", TASK, actors[:1], 100, 0, DataSet("walker2d-medium", 1))
    assert not (tmp_path / "run").exists()


def test_the_hands_tasks_do_not_mix(collected, monkeypatch):
    run = collected("run", 1)
    monkeypatch.setattr("onestride.runs.run.task_of", lambda _run: TASK.with_control(name="adroit-pen"))
    check(run, "adroit-pen-tiny")
    with pytest.raises(ValueError, match="is of task 'adroit-pen', and preset 'adroit-door-small'"):
        check(run, "adroit-door-small")
    assert preset_of(TASK.with_control(name="adroit-door")) == "adroit-door-small"
