"""The program: presets, and errors for a tired person."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from onestride.cli import main
from onestride.commands.drive import Export, Run
from onestride.commands.program import COMMANDS
from onestride.commands.stages import Pairs, Train, train_command
from onestride.control.fallback import FallbackTimeouts
from onestride.errors import on_purpose
from onestride.runs import presets
from onestride.runs import run as run_folder
from onestride.runs.trainable import UntrainedError
from onestride.tasks import TASKS
from typed import refused, run


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


def test_an_unknown_preset_names_the_nearest_few(capsys):
    message = refused(capsys, "collect", "--preset", "hopper")
    assert "there is no preset 'hopper'. The nearest: hopper-small, hopper-full, hopper-tiny, " in message
    assert len(message) < 250


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("--verison", "--version")])
def test_a_mistyped_command_names_the_nearest(typed, meant, capsys):
    assert f"there is no command '{typed}'. Did you mean '{meant}'? There are: collect, " in refused(capsys, typed, "x")


def test_a_run_of_any_environment_is_told_both_presets(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(run_folder, "task_of", lambda run: TASKS["gym:Pendulum-v1"]())
    monkeypatch.setattr(run_folder, "metadata_of", lambda run: {})
    with pytest.raises(ValueError, match="give --preset gym-small, or gym-tiny, as the run was made"):
        run_folder.check_preset_matches_task(tmp_path, "demo", "kinova")


def test_presets_are_listed_with_what_they_are_about(capsys):
    lines = run(capsys, "presets", "hopper-medium").splitlines()
    assert [line.split()[0] for line in lines] == ["hopper-medium-small", "hopper-medium-full", "hopper-medium-tiny"]
    assert lines[0].endswith(presets.load("hopper-medium-small").about)
    assert "no preset's name has 'hoper'" in refused(capsys, "presets", "hoper")


def test_options_that_are_checked_with_a_preset_are_its_own():
    """What is said of them before torch is imported agrees with what there is."""
    preset = presets.load("pusht-image-tiny")
    kinds = [type(train_command(preset, "pusht-image-tiny", name)) for name in ("teacher", "iql", "contexts")]
    fields = {name for kind in kinds for name in kind.__dataclass_fields__} - set(Train.__dataclass_fields__)
    assert fields == set(Train.of_preset)


def test_what_has_to_come_first_is_told_with_the_preset_that_was_given(capsys, monkeypatch, tmp_path):
    def untrained(command):
        raise UntrainedError(command.run / "teacher", "gym-small")

    monkeypatch.setattr(Pairs, "__call__", untrained)
    r = str(tmp_path / "r")
    message = refused(capsys, "pairs", "--preset", "gym-tiny", "--run", r)
    assert f"comes first: `onestride train teacher --preset gym-tiny --run {r}`" in message


def test_a_students_folder_is_not_taken_for_what_it_is_trained_by():
    said = str(UntrainedError(Path("r/off-dynamics-score-2"), "tiny"))
    assert "comes first: `onestride train off-dynamics-score --seeds 2 --preset tiny --run r`" in said


def test_stages_out_of_order_say_what_is_missing(capsys, tmp_path):
    r = str(tmp_path / "r")
    assert "make one with `onestride collect`" in refused(capsys, "train", "teacher", "--run", r)
    assert "make one with `onestride collect`" in refused(capsys, "train", "dnk", "--run", r)
    assert "make one with `onestride collect`" in refused(capsys, "evaluate", "--run", r)
    assert "holds no finished checkpoint" in refused(capsys, "run", "--run", r)


def test_a_benchmarks_data_needs_behaviour_policies(capsys, tmp_path):
    r = ("--preset", "hopper-tiny", "--run", str(tmp_path / "r"))
    message = refused(capsys, "quickstart", *r)
    assert (
        "name one or more with --behaviours, such as FILE.py:NAME, a function (observation, rng) -> action" in message
    )
    assert "`onestride import` first" in message
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


def test_wishes_of_a_measured_run_that_cannot_be_are_refused_first(capsys, tmp_path):
    r = ("run", "--run", str(tmp_path / "r"), "--duration")
    assert "rate is 0, expected a positive number" in refused(capsys, *r, "5", "--rate", "0")
    assert "duration is -1, expected a positive number" in refused(capsys, *r, "-1", "--rate", "50")
    assert "measures wall time" in refused(capsys, *r, "5", "--clock", "charged")
    assert "holds no finished checkpoint" in refused(capsys, *r, "5", "--rate", "50")
    assert "give --duration with it" in refused(capsys, "run", "--run", str(tmp_path / "r"), "--rate", "0")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from onestride.cli import main; main()", "reproduce", "--dry-run"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_reproduce_takes_no_preset_and_a_dry_run_says_what_will_be_done(capsys):
    main(["reproduce", "dnk-table1", "--budget", "tiny", "--run", "runs", "--dry-run"])
    said = capsys.readouterr()
    assert "preset" not in json.loads(said.out)
    lines = said.err.splitlines()
    assert lines[0].startswith("dnk-table1 on halfcheetah-medium-expert: every stage in a minute")
    assert "teacher, pairs, dnk" in lines[1]
    assert len([line for line in lines if line.startswith("dnk-table1 on ")]) == 3
    assert "and goes to runs/" in lines[-1]
    assert "There are: dnk-table1, dnk-ablations" in refused(capsys, "reproduce", "table1", "--dry-run")


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
        (("train", "dmk", "--run", "RUN"), "nothing called 'dmk' to train. Did you mean 'kdm'? There are: teacher, "),
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
    assert capsys.readouterr().err == "onestride: exporting somewhere to exported\n"


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


@pytest.mark.parametrize(
    "command", ["collect", "import nothing.npz", "train teacher", "pairs", "evaluate", "quickstart"]
)
def test_a_mistyped_environment_is_refused_before_the_run_is_looked_at(command, capsys, tmp_path):
    """What trains said that there was no data, which nobody could have made."""
    preset = ("--preset", "gym-tiny", "--task", "gym:Reachr-v5", "--run", str(tmp_path / "run"))
    assert refused(capsys, *command.split(), *preset).splitlines()[-1] == (
        "onestride: there is no environment 'Reachr-v5'. Gymnasium says \"Environment `Reachr` doesn't exist. Did you "
        'mean: `Reacher`?" Correct the id, its version included, or install or import the package that has it'
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["collect", "pairs", "evaluate", "quickstart", "reproduce"])
def test_sigterm_stops_it_as_ctrl_c_does(command, capsys, monkeypatch, tmp_path):
    cleaned = []

    def told(command):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(command)

    monkeypatch.setattr(COMMANDS[command], "__call__", told)
    with pytest.raises(SystemExit) as stop:
        main([command, "--run", str(tmp_path)])
    assert (stop.value.code, len(cleaned)) == (143, 1)
    assert "goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("module", ["onestride", "onestride.cli"])
def test_it_runs_as_a_module(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "run", "--dry-run"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["command"] == "run"
