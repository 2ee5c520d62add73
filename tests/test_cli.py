"""The program: presets, errors for a tired person, and the whole path on the tiny preset."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context

import numpy as np
import pytest

from onestride.cli import main
from onestride.commands.drive import Export, Run
from onestride.commands.stages import Pairs
from onestride.control.fallback import FallbackTimeouts
from onestride.errors import on_purpose
from onestride.files import exclusive
from onestride.latency import soak
from onestride.runs import presets
from onestride.studies import realtime


def run(capsys, *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_every_preset_resolves_and_dry_run_touches_nothing(name, capsys, tmp_path):
    method = next(stage.name for stage in presets.load(name).stages if stage.role == "method")
    out = json.loads(run(capsys, "train", method, "--preset", name, "--run", str(tmp_path / "r"), "--dry-run"))
    assert out["preset"] == name
    assert out["training"]["steps"] == presets.load(name).stage(method).training.steps
    assert list(tmp_path.iterdir()) == []


def test_a_value_can_be_given_on_top_of_a_preset(capsys):
    out = json.loads(run(capsys, "train", "kdm-f", "--preset=full", "--config.latent-dim", "64", "--dry-run"))
    assert (out["config"]["operator"], out["config"]["latent_dim"]) == ("kdm-f", 64)
    assert out["training"]["steps"] == presets.load("full").stage("kdm-f").training.steps


def test_the_papers_numbers_are_in_the_paper_preset():
    paper = presets.load("paper")
    pairs, dnk = paper.stage("pairs").config, paper.stage("dnk")
    assert pairs.count == 500_000
    assert (pairs.temperatures, pairs.probabilities) == ((0.3, 0.5, 0.7), (0.25, 0.5, 0.25))
    assert (dnk.training.batch_size, dnk.training.learning_rate) == (64, 3e-4)
    assert dnk.training.steps == 200 * 500_000 // 64
    assert (dnk.config.latent_dim, paper.stage("teacher").config.n_steps) == (512, 30)
    s = dnk.config
    weights = (s.prediction, s.reconstruction, s.latent, s.action, s.spectral, s.inverse)
    assert weights == (1.0, 0.8, 0.2, 1.0, 0.01, 1.0)
    assert (s.first_action_weight, s.later_action_weight) == (1.5, 0.6)


def test_an_unknown_preset_names_the_nearest(capsys):
    assert "Did you mean 'demo'? There are: demo, full, paper, tiny" in refused(capsys, "collect", "--preset", "dmeo")


def test_stages_out_of_order_say_what_is_missing(capsys, tmp_path):
    r = str(tmp_path / "r")
    assert "make one with `onestride collect`" in refused(capsys, "train", "teacher", "--run", r)
    assert "make one with `onestride collect`" in refused(capsys, "train", "dnk", "--run", r)
    assert "make one with `onestride collect`" in refused(capsys, "evaluate", "--run", r)
    assert "holds no finished checkpoint" in refused(capsys, "run", "--run", r)


def test_a_benchmarks_data_needs_behaviour_policies(capsys, tmp_path):
    r = ("--preset", "hopper-tiny", "--run", str(tmp_path / "r"))
    assert "name one or more with --behaviours" in refused(capsys, "quickstart", *r)
    assert "no behaviour policy's file at" in refused(capsys, "collect", *r, "--behaviours", str(tmp_path / "x.npz"))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_task_names_the_nearest(capsys, tmp_path):
    message = refused(capsys, "collect", "--task", "hoper-v5", "--run", str(tmp_path / "r"))
    assert (
        "there is no task 'hoper-v5'. Did you mean 'hopper-v5'? There are: kinova, pusht, pusht-image, quadrotor, "
        "halfcheetah-v5" in message
    )


def test_commands_of_a_benchmark_have_its_presets_values(capsys):
    for kind, name in (("returns", "discount"), ("iql", "expectile")):
        out = json.loads(run(capsys, "train", kind, "--preset", "walker2d-small", "--dry-run"))
        assert name in out["config"]
    out = json.loads(run(capsys, "collect", "--preset", "walker2d-small", "--dry-run"))
    assert (out["task"], out["amount"]) == ("walker2d-v5", presets.load("walker2d-small").amount)
    out = json.loads(run(capsys, "evaluate", "--preset", "walker2d-full", "--evaluate.episodes", "7", "--dry-run"))
    assert (out["evaluate"]["episodes"], out["evaluate"]["width"]) == (7, 50)


def test_exporting_and_timing_resolve_without_a_run(capsys, tmp_path):
    out = json.loads(run(capsys, "export", str(tmp_path / "dnk-0"), "--draws", "8", "--dry-run"))
    assert (out["checkpoint"], out["draws"], out["precision"]) == (str(tmp_path / "dnk-0"), 8, "float32")
    out = json.loads(run(capsys, "bench", "--preset", "hopper-small", "--bench.candidates", "64", "--dry-run"))
    assert (out["preset"], out["bench"]["candidates"]) == ("hopper-small", [64])
    assert "holds no finished checkpoint" in refused(
        capsys, "export", str(tmp_path / "x"), "--out", str(tmp_path / "y")
    )


def test_a_bad_choice_is_refused_by_name(capsys):
    message = refused(capsys, "train", "dnk", "--config.operator", "dmk", "--dry-run")
    assert "Invalid choice" in message
    assert all(name in message for name in ("dnk", "kdm", "kdm-f", "mlp"))


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
    assert (tiny_run / "report.html").exists()


def test_everything_again_changes_nothing(tiny_run, capsys):
    before = {p: p.read_bytes() for p in tiny_run.rglob("*.safetensors")}
    main(["quickstart", "--preset", "tiny", "--run", str(tiny_run), "--no-pictures"])
    assert {p: p.read_bytes() for p in tiny_run.rglob("*.safetensors")} == before
    assert "trained already" in capsys.readouterr().err


def test_an_evaluation_that_another_process_is_at_work_on_is_refused(tiny_run, capsys):
    with exclusive(tiny_run / "evaluation"):
        message = refused(capsys, "evaluate", "--preset", "tiny", "--run", str(tiny_run))
    assert "another process is at work on" in message


def test_a_trained_student_drives_the_arm(tiny_run, capsys):
    out = run(capsys, "run", "--preset", "tiny", "--run", str(tiny_run), "--clock", "charged", "--timeout", "0.5")
    record = json.loads(out)
    assert 1 <= record["executed_steps"] + record["held_commands"] <= 10  # fewer where decisions come late


def test_the_same_student_drives_as_an_exported_engine(tiny_run, tmp_path, capsys):
    exported = tmp_path / "exported"
    run(capsys, "export", str(tiny_run / "dnk-0"), "--out", str(exported), "--draws", "4")
    r = ("run", "--checkpoint", str(exported), "--clock", "charged", "--timeout", "0.5")
    assert json.loads(run(capsys, *r))["nfe"] == 1
    assert "leave --engine torch away" in refused(capsys, *r, "--engine", "torch")
    reduced = ("run", "--run", str(tiny_run), "--clock", "charged", "--timeout", "0.5", "--engine", "torch")
    assert json.loads(run(capsys, *reduced))["executed_steps"] > 0
    (exported / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:-1])
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


def test_wishes_of_a_measured_run_that_cannot_be_are_refused_first(capsys, tmp_path):
    r = ("run", "--run", str(tmp_path / "r"), "--duration")
    assert "rate is 0, expected a positive number" in refused(capsys, *r, "5", "--rate", "0")
    assert "duration is -1, expected a positive number" in refused(capsys, *r, "-1", "--rate", "50")
    assert "measures wall time" in refused(capsys, *r, "5", "--clock", "charged")
    assert "holds no finished checkpoint" in refused(capsys, *r, "5", "--rate", "50")
    assert "give --duration with it" in refused(capsys, "run", "--run", str(tmp_path / "r"), "--rate", "0")
    assert list(tmp_path.iterdir()) == []


def test_other_settings_never_overwrite_a_checkpoint(tiny_run, capsys):
    r = ["--preset", "tiny", "--run", str(tiny_run)]
    assert "not overwritten" in refused(capsys, "train", "teacher", *r, "--training.steps", "31")
    assert "other settings" in refused(capsys, "pairs", *r, "--pairs.seed", "1")
    assert "other settings" in refused(capsys, "collect", *r, "--seed", "1")


def test_publishing_refuses_to_overwrite(tiny_run, tmp_path, capsys):
    r = ["evaluate", "--preset", "tiny", "--run", str(tiny_run), "--no-pictures", "--publish", str(tmp_path / "out")]
    run(capsys, *r)
    assert (tmp_path / "out" / "comparison.json").exists()
    assert "already; name another folder" in refused(capsys, *r)


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from onestride.cli import main; main()", "reproduce", "--dry-run"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_reproduce_takes_no_preset_and_shows_none(capsys):
    assert "preset" not in json.loads(run(capsys, "reproduce", "--dry-run"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("run", "--scene", "-1"), "scene is -1, expected 0 to"),
        (("run", "--timeout", "0"), "timeout is 0, expected a positive number"),
        (("run", "--max-observation-age", "0.3"), "--max-observation-age belongs to a measured run"),
        (("run", "--server", "ws://127.0.0.1:1"), "--server belongs to a measured run"),
        (("run", "--duration", "1", "--server", "nowhere"), "'nowhere' is no address of a policy server"),
        (("run", "--duration", "1", "--server", "ws://127.0.0.1:1"), "no policy server at ws://127.0.0.1:1"),
        (
            ("run", "--duration", "1", "--server", "ws://127.0.0.1:1", "--engine", "auto"),
            "leave --checkpoint, --engine",
        ),
        (("run", "--device", "rubbish"), "cannot use device 'rubbish' here"),
        (("collect", "--amount", "-5", "--run", "RUN"), "amount is -5, expected 1 or more"),
        (("collect", "--behaviours", "hopper.npz", "--run", "RUN"), "has a planner of its own"),
        (("train", "dmk", "--run", "RUN"), "nothing called 'dmk' to train. There are: teacher, dnk"),
        (("train",), "say what to train"),
        (("train", "pairs", "--run", "RUN"), "pairs are made, not trained"),
        (("reproduce", "dnk-table1", "--task", "foo", "--run", "RUN"), "There are: halfcheetah-medium-expert, "),
        (("reproduce", "table1", "--run", "RUN"), "There are: dnk-table1, dnk-ablations, kdp-table1"),
        (("reproduce", "kdp-table3", "--data", "x.npz", "--run", "RUN"), "say which with --task"),
        (("reproduce", "dnk-table1", "--task", "hopper-mine", "--run", "RUN"), "has no data yet: give --behaviours"),
        (("run", "--run", "RUN"), "train one first"),
    ],
)
def test_wishes_that_cannot_be_are_refused_before_anything_is_written(command, said, capsys, tmp_path):
    words = [str(tmp_path / "r") if word == "RUN" else word for word in command]
    assert said in " ".join(refused(capsys, *words).split())
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_before_the_run(tiny_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "report.json")
    assert "cannot be written" in refused(capsys, "run", "--run", str(tiny_run), "--duration", "600", "--out", out)


def test_what_an_exported_folder_was_not_made_for_is_refused(tiny_run, tmp_path, capsys):
    run(capsys, "export", str(tiny_run / "dnk-0"), "--out", str(tmp_path / "e"), "--draws", "2", "--precision", "int8")
    r = ("run", "--checkpoint", str(tmp_path / "e"))
    assert "was exported for onnx-int8, which runs it; leave --engine onnx away" in refused(
        capsys, *r, "--engine", "onnx"
    )
    loaded = soak.load_policy_or_engine(tmp_path / "e", "cpu", "onnx-int8")
    assert loaded.about["engine"].startswith("onnx-int8")
    with pytest.raises(ValueError, match="runs on the CPU; leave --device cuda away"):
        soak.load_policy_or_engine(tmp_path / "e", "cuda")


@pytest.mark.parametrize("error", [MemoryError("291 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_wish_for_too_much_memory_is_one_line(error, capsys, monkeypatch):
    def greedy(command):
        raise error

    monkeypatch.setattr(Export, "__call__", greedy)
    assert "memory is short; ask for less" in refused(capsys, "export", "somewhere")


def reading_what_is_no_number(command):
    int("nine")


def a_library_that_cannot_take_it(command):
    np.zeros(3).reshape(2, 2)


def a_division(command):
    return 1 / (command.draws - 64)


def a_key(command):
    return {}["candidates"]


def an_index(command):
    return [][0]


def a_type(command):
    return len(3)


@pytest.mark.parametrize(
    ("bug", "error"),
    [
        (reading_what_is_no_number, ValueError),
        (a_library_that_cannot_take_it, ValueError),
        (a_division, ZeroDivisionError),
        (a_key, KeyError),
        (an_index, IndexError),
        (a_type, TypeError),
    ],
)
def test_a_bug_shows_where_it_is(bug, error, capsys, monkeypatch):
    """Only errors that the program raises on purpose are one line."""
    monkeypatch.setattr(Export, "__call__", bug)
    with pytest.raises(error):
        main(["export", "somewhere"])
    assert capsys.readouterr().err == ""


def test_whose_an_error_is_shows_at_where_it_was_raised():
    def caught(call, *arguments):
        with pytest.raises(Exception) as error:  # noqa: PT011
            call(*arguments)
        return error.value

    assert on_purpose(caught(presets.load, "dmeo"))
    assert on_purpose(caught(FallbackTimeouts.at, 0.01, -1.0))
    assert not on_purpose(caught(int, "nine"))
    assert not on_purpose(caught(np.load, BytesIO(b"no array")))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert on_purpose(caught(pool.submit(presets.load, "dmeo").result))
        assert not on_purpose(caught(pool.submit(int, "nine").result))
        assert not on_purpose(caught(pool.submit(np.load, BytesIO(b"no array")).result))


@pytest.mark.parametrize(("command", "goes_on"), [("run", False), ("pairs", True)])
def test_who_stops_it_hears_whether_it_goes_on(command, goes_on, capsys, monkeypatch):
    def stopped(command):
        raise KeyboardInterrupt

    monkeypatch.setattr({"run": Run, "pairs": Pairs}[command], "__call__", stopped)
    with pytest.raises(SystemExit) as stop:
        main([command])
    assert stop.value.code == 130
    assert ("goes on from here" in capsys.readouterr().err) == goes_on


@pytest.mark.parametrize("module", ["onestride", "onestride.cli"])
def test_it_runs_as_a_module(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "run", "--dry-run"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["command"] == "run"
