"""Records of experiments: refused before any work, or written whole."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from onestride.evaluation.result import Experiment, read_result
from onestride.manifest import without_digests

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def record(experiment: Experiment, **more: float) -> dict:
    return experiment.record(config={"rounds": 1}, seeds={}, rows={"row": {}}, notes=["a note"], **more)


def test_a_record_says_who_when_and_on_what(tmp_path):
    out = tmp_path / "new" / "here.json"
    made = record(Experiment("startup", "benchmarks/startup.py", out), earlier_s=100.0)
    assert without_digests(read_result(out)) == json.loads(json.dumps(made))
    assert (made["schema"], made["experiment"], made["command"]) == (1, "startup", "benchmarks/startup.py")
    assert made["rows"] == {"row": {}}
    assert made["notes"] == ["a note"]
    assert 100 <= made["wall_s"] < 101
    assert made["started"].endswith("Z")
    assert made["machine"]["cores"] == os.cpu_count()


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


def test_a_benchmark_refuses_before_it_measures(tmp_path, monkeypatch):
    """It took its time, then overwrote what was there."""
    spec = importlib.util.spec_from_file_location("speed", BENCHMARKS / "speed.py")
    assert spec is not None
    assert spec.loader is not None
    speed = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed", speed)
    spec.loader.exec_module(speed)
    out = tmp_path / "mine.json"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="there already"):
        speed.main(speed.Arguments(out=out))
    assert out.read_text() == "mine"
