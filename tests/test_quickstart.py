"""The whole path on the tiny preset: evaluating again, driving, exporting, and what a finished run refuses."""

import json
import shutil
import signal
from html import unescape

import pytest

from onestride.cli import main
from onestride.files import exclusive
from onestride.latency import soak
from onestride.runs import presets
from onestride.studies import realtime
from typed import refused, run


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    main(["quickstart", "--preset", "tiny", "--run", str(folder), "--no-pictures"])
    return folder


def test_quickstart_goes_from_nothing_to_a_report(tiny_run):
    comparison = json.loads((tiny_run / "evaluation" / "comparison.json").read_text())
    assert comparison["schema"] == 2
    assert list(comparison["rows"]) == ["teacher", "dnk", "kdm"]
    row = comparison["rows"]["dnk"]
    assert row["nfe"]["mean"] == 1
    assert row["success"]["n"] == presets.load("tiny").evaluate.trials
    for key in ("command", "config", "seeds", "versions", "machine", "started", "wall_s", "notes"):
        assert comparison[key]
    learnt = {name: said["training"]["preset"] for name, said in comparison["config"].items() if "training" in said}
    assert learnt == dict.fromkeys(("dnk-0", "kdm-0", "teacher"), "tiny")


NOTE = (
    "Preset 'tiny' is there to try commands: dnk-0, kdm-0, teacher learnt nothing in its few steps, and what is "
    "measured of them is useless."
)


def test_what_learnt_nothing_is_said_so_on_the_page(tiny_run):
    assert json.loads((tiny_run / "evaluation" / "comparison.json").read_text())["notes"][0] == NOTE
    assert unescape((tiny_run / "report.html").read_text()).count(NOTE) == 1


@pytest.mark.slow
def test_settings_of_ones_own_are_no_presets(tiny_run, tmp_path, capsys):
    there = shutil.copytree(tiny_run, tmp_path / "run")
    run(capsys, "train", "kdm", "--run", str(there), "--seeds", "1", "--training.steps", "31")
    run(capsys, "train", "kdm", "--run", str(there), "--seeds", "2")
    (there / "kdm-0").rename(tmp_path / "away")
    main(["evaluate", "--run", str(there), "--no-pictures"])
    assert NOTE.replace("kdm-0", "kdm-2") in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_everything_again_changes_nothing(tiny_run, capsys):
    before = {p: p.read_bytes() for p in tiny_run.rglob("*.safetensors")}
    main(["quickstart", "--preset", "tiny", "--run", str(tiny_run), "--no-pictures"])
    assert {p: p.read_bytes() for p in tiny_run.rglob("*.safetensors")} == before
    assert "trained already" in capsys.readouterr().err


def test_an_evaluation_that_another_process_is_at_work_on_is_refused(tiny_run, capsys):
    with exclusive(tiny_run / "evaluation"):
        message = refused(capsys, "evaluate", "--preset", "tiny", "--run", str(tiny_run))
    assert "another process is at work on" in message


@pytest.mark.slow
def test_a_trained_student_drives_the_arm(tiny_run, capsys):
    out = run(capsys, "run", "--preset", "tiny", "--run", str(tiny_run), "--clock", "charged", "--timeout", "0.5")
    record = json.loads(out)
    assert 1 <= record["executed_steps"] + record["held_commands"] <= 10  # fewer where decisions come late
    assert (record["success"], record["outcome"]) == (0.0, "timeout")


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """The student as one graph, in 8 bits."""
    folder = tmp_path_factory.mktemp("exported") / "engine"
    main(["export", str(tiny_run / "dnk-0"), "--out", str(folder), "--draws", "4", "--precision", "int8"])
    return folder


@pytest.mark.slow
def test_the_same_student_drives_as_an_exported_engine(tiny_run, exported, tmp_path, capsys):
    folder = shutil.copytree(exported, tmp_path / "engine")
    r = ("run", "--checkpoint", str(folder), "--clock", "charged", "--timeout", "0.5")
    assert json.loads(run(capsys, *r))["nfe"] == 1
    assert "leave --engine torch away" in refused(capsys, *r, "--engine", "torch")
    reduced = ("run", "--run", str(tiny_run), "--clock", "charged", "--timeout", "0.5", "--engine", "torch")
    assert json.loads(run(capsys, *reduced))["executed_steps"] > 0
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1])
    assert "was altered or cut short" in refused(capsys, *r)


def test_a_measured_run_writes_its_report_and_leaves_others_alone(tiny_run, tmp_path, capsys):
    r = ("run", "--preset", "tiny", "--run", str(tiny_run), "--scene", "3", "--rate", "50", "--duration", "0.4")
    out = run(capsys, *r, "--out", str(tmp_path / "mine.json"), "--stop", "30")
    metrics = json.loads(out[: out.index("results:")])
    assert metrics["ticks"] == 20
    report = json.loads((tmp_path / "mine.json").read_text())
    assert report["rows"]["dnk-0"]["ticks"]["mean"] == 20
    assert report["config"]["run"]["first_scene"] == 3
    assert report["config"]["run"]["patience"] == {"expiry": 0.1, "fade": 0.1, "stop": 30.0}
    assert "mine.json, mine.png, mine.safetensors already" in refused(capsys, *r, "--out", str(tmp_path / "mine.json"))


@pytest.mark.slow
def test_a_measured_run_that_is_stopped_writes_what_it_has(tiny_run, tmp_path, capsys, monkeypatch):
    def interrupted(record, log):
        added(record, log)
        raise KeyboardInterrupt

    added = soak.Record.add
    monkeypatch.setattr(soak.Record, "add", interrupted)
    r = ("run", "--preset", "tiny", "--run", str(tiny_run), "--rate", "50", "--duration", "5", "--timeout", "0.4")
    with pytest.raises(SystemExit, match="130"):
        run(capsys, *r, "--out", str(tmp_path / "mine.json"), "--stop", "30")
    report = json.loads((tmp_path / "mine.json").read_text())
    assert report["rows"]["dnk-0"]["ticks"]["mean"] == 20
    assert report["notes"][0] == "Ended by KeyboardInterrupt, 20 of 250 ticks were driven."


@pytest.mark.slow
def test_an_impatient_second_signal_waits_for_the_report(tiny_run, tmp_path, capsys, monkeypatch):
    """Ctrl-C and at once Ctrl-C again: the report was lost."""

    def impatient(*arguments):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return written(*arguments)

    def stopped_by_a_signal(record, log):
        added(record, log)
        signal.raise_signal(signal.SIGINT)

    added, written = soak.Record.add, realtime.write
    monkeypatch.setattr(soak.Record, "add", stopped_by_a_signal)
    monkeypatch.setattr(realtime, "write", impatient)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    r = ("run", "--preset", "tiny", "--run", str(tiny_run), "--rate", "50", "--duration", "5", "--timeout", "0.4")
    try:
        with pytest.raises(SystemExit, match="130"):
            run(capsys, *r, "--out", str(tmp_path / "mine.json"), "--stop", "30")
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert json.loads((tmp_path / "mine.json").read_text())["notes"][0].startswith("Ended by KeyboardInterrupt, 20 of")
    assert (tmp_path / "mine.safetensors").exists()


def test_other_settings_never_overwrite_a_checkpoint(tiny_run, capsys):
    r = ["--preset", "tiny", "--run", str(tiny_run)]
    said = refused(capsys, "train", "teacher", *r, "--training.steps", "31", "--config.n-steps", "5")
    assert "(training.steps: 30 there, 31 asked for; generator.n_steps: 4 there, 5 asked for)" in said
    assert "not overwritten" in said
    assert "other data (seed: 0 there, 1 asked for)" in refused(capsys, "pairs", *r, "--pairs.seed", "1")
    assert "other settings (seed: 0 there, 1 asked for)" in refused(capsys, "collect", *r, "--seed", "1")


@pytest.mark.slow
def test_publishing_refuses_to_overwrite(tiny_run, tmp_path, capsys):
    r = ["evaluate", "--preset", "tiny", "--run", str(tiny_run), "--no-pictures", "--publish", str(tmp_path / "out")]
    run(capsys, *r)
    assert (tmp_path / "out" / "comparison.json").exists()
    assert "already; name another folder" in refused(capsys, *r)


def test_a_report_that_cannot_be_written_is_refused_before_the_run(tiny_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "report.json")
    assert "cannot be written" in refused(capsys, "run", "--run", str(tiny_run), "--duration", "600", "--out", out)


@pytest.mark.slow
def test_what_an_exported_folder_was_not_made_for_is_refused(exported, capsys):
    r = ("run", "--checkpoint", str(exported))
    assert "was exported for onnx-int8, which runs it; leave --engine onnx away" in refused(
        capsys, *r, "--engine", "onnx"
    )
    loaded = soak.load_policy_or_engine(exported, "cpu", "onnx-int8")
    assert loaded.about["engine"].startswith("onnx-int8")
    with pytest.raises(ValueError, match="runs on the CPU; leave --device cuda away"):
        soak.load_policy_or_engine(exported, "cuda")
