"""A run knows the preset that made its data; commands take it, and say where another one was given."""

from __future__ import annotations

import json

import pytest

from onestride.cli import main
from onestride.data.minari import read_metadata
from onestride.files import METADATA
from onestride.runs.collecting import plan_stage
from onestride.runs.made_with import preset_of_run
from onestride.runs.run import data_identity, fits
from onestride.tasks import TASKS
from typed import refused, run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of which the preset was said once, when its data were made."""
    folder = tmp_path_factory.mktemp("made") / "run"
    main(["collect", "--preset", "tiny", "--amount", "2", "--run", str(folder)])
    return folder


def test_later_commands_take_the_preset_that_made_the_data(made, capsys):
    assert preset_of_run(made) == "tiny"
    out = json.loads(run(capsys, "train", "teacher", "--run", str(made), "--dry-run"))
    assert (out["preset"], out["training"]["steps"]) == ("tiny", 30)
    out = json.loads(run(capsys, "evaluate", f"--run={made}", "--dry-run"))
    assert (out["preset"], out["evaluate"]["trials"]) == ("tiny", 2)
    out = json.loads(run(capsys, "pairs", "--run", str(made), "--preset", "full", "--dry-run"))
    assert (out["preset"], out["pairs"]["count"]) == ("full", 122_880)


def test_another_preset_than_the_datas_is_told_in_a_line(made, capsys):
    said = f"onestride: preset 'tiny' made the data in {made}; settings are now those of preset 'full', as given\n"
    assert said in refused(capsys, "pairs", "--run", str(made), "--preset", "full")  # no teacher is there
    for same in ((), ("--preset", "tiny")):
        assert "settings are now" not in refused(capsys, "pairs", "--run", str(made), *same)


def test_a_preset_of_another_task_is_refused_with_the_runs_own(made, capsys):
    message = refused(capsys, "pairs", "--run", str(made), "--preset", "gym-tiny")
    assert "is of task 'kinova'" in message
    assert "leave --preset away: the run's is 'tiny'" in message


def test_a_preset_changes_nothing_of_what_is_learnt_from(tmp_path):
    """Digests of checkpoints are made of the data's identity; and the same data may have another preset's name."""
    for name in ("", "tiny"):
        plan_stage(tmp_path / (name or "none"), TASKS["kinova"](), 2, 0, preset=name)
    assert data_identity(tmp_path / "none") == data_identity(tmp_path / "tiny")
    plan_stage(tmp_path / "tiny", TASKS["kinova"](), 2, 0, preset="demo")
    assert preset_of_run(tmp_path / "tiny") == "tiny"
    assert "preset" not in read_metadata(tmp_path / "none" / "data")


def test_data_without_a_preset_or_damaged_have_none(tmp_path):
    assert preset_of_run(tmp_path) is None
    path = tmp_path / "data" / METADATA
    path.parent.mkdir(parents=True)
    for content in ("{", "{}", '{"preset": 3}'):
        path.write_text(content)
        assert preset_of_run(tmp_path) is None


def test_a_preset_is_remembered_where_it_is_for_the_task():
    assert fits(TASKS["hopper-v4"](), "hopper-v5")
    assert fits(TASKS["gym:Pendulum-v1"](), "")
    assert not fits(TASKS["gym:Pendulum-v1"](), "kinova")
    assert not fits(TASKS["kinova"](), "")
