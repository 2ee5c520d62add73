"""Records of experiments: refused before any work, or written whole."""

import json
import sys
from importlib import import_module

import pytest

from onestride.commands.base import typed
from onestride.cores import usable_cores
from onestride.evaluation import result
from onestride.evaluation.result import SPENT, Experiment
from onestride.machine import commit
from onestride.seals import read_result
from onestride.studies.__main__ import MEASURED, main


def record(experiment: Experiment) -> dict:
    return experiment.record(config={"rounds": 1}, seeds={}, rows={"row": {}}, notes=["a note"])


def test_a_record_says_who_when_and_on_what(tmp_path):
    out = tmp_path / "new" / "here.json"
    made = record(Experiment("startup", "onestride.studies startup", out))
    assert read_result(out) == made
    assert (made["schema"], made["experiment"], made["command"]) == (2, "startup", "onestride.studies startup")
    assert made["rows"] == {"row": {}}
    assert made["notes"] == ["a note"]
    assert made["wall_s"] > 0
    assert made["started"].endswith("Z")
    assert made["commit"] == commit()
    assert made["machine"]["cores"] == usable_cores()


def test_ceilings_are_the_machines():
    made = Experiment("bench", "onestride bench").record(
        config={}, seeds={}, rows={}, notes=[], ceilings={"copy_gb_per_s": 5.0}
    )
    assert made["machine"]["copy_gb_per_s"] == 5.0
    assert "cpu" in made["machine"]


def test_what_was_measured_is_shown_before_it_is_written(tmp_path):
    shown = []

    def show(made):
        assert not (tmp_path / "mine.json").exists()
        shown.append(made)

    made = Experiment("bench", "onestride bench", tmp_path / "mine.json").record(
        config={}, seeds={}, rows={}, notes=[], show=show
    )
    assert shown == [made]
    assert (tmp_path / "mine.json").exists()


def test_what_is_there_is_not_overwritten(tmp_path):
    out = tmp_path / "mine.json"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine\.json is there already; name another file"):
        Experiment("bench", "onestride bench", out)
    assert out.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_said_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        Experiment("bench", "onestride bench", tmp_path / "file" / "mine.json")


def test_a_study_refuses_before_it_measures(tmp_path):
    """It took its time, then overwrote what was there."""
    out = tmp_path / "mine.json"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="there already"):
        main(["training_speed", "--out", str(out)])
    assert out.read_text() == "mine"


def test_what_all_commands_spent_adds_up_wherever_they_were_stopped(tmp_path, monkeypatch):
    """The first two were killed before there was a comparison: what they took was lost."""
    now = [0.0]
    monkeypatch.setattr(result.time, "monotonic", lambda: now[0])
    for started, spent in ((1_000, 10.0), (2_000, 20.0), (3_000, 5.0)):
        monkeypatch.setattr(result.time, "time", lambda started=started: started)
        experiment = Experiment("hopper-v5", "onestride evaluate", spent=tmp_path)
        experiment.resume(begun=(tmp_path / SPENT).exists())
        now[0] += spent
        experiment.keep()
        now[0] += 1.0  # after the last trial that was written down, before the kill
    made = record(experiment)
    assert made["wall_s"] == 36.0
    assert made["started"] == "1970-01-01T00:16:40Z"
    assert json.loads((tmp_path / SPENT).read_text()) == {"started": made["started"], "wall_s": 36.0}


def test_what_nobody_wrote_down_is_unknown_and_not_what_the_last_command_took(tmp_path):
    experiment = Experiment("hopper-v5", "onestride evaluate", spent=tmp_path)
    experiment.resume(begun=True)
    assert record(experiment)["wall_s"] is None
    experiment = Experiment("hopper-v5", "onestride evaluate", spent=tmp_path)
    experiment.resume(begun=True)
    assert record(experiment)["wall_s"] is None


def test_what_was_typed_is_on_record(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py", "modes", "--run", "my runs/a", "--starts", "8"])
    assert typed("onestride.studies") == "onestride.studies modes --run 'my runs/a' --starts 8"


def test_a_study_that_there_is_not_is_named_with_those_there_are():
    for name in MEASURED:
        assert callable(import_module(f"onestride.studies.{name}").measure)
    with pytest.raises(ValueError, match=r"'modes' is no study that measures; there are candidate_sampling, "):
        main(["modes"])
