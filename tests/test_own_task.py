"""A task, demonstrator, metric and selector of a package that is not ours: the whole path by name, in processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "examples" / "own_task"
IN_TURN = """
import json, sys
from onestride.cli import main
if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        main(words)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `pip install examples/own_task` leaves in an environment: the package and its entry points."""
    site = tmp_path_factory.mktemp("site")
    (site / "two_link").symlink_to(PACKAGE / "src" / "two_link")
    record = site / "two_link-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: two-link\nVersion: 0.1.0\n")
    text = (PACKAGE / "pyproject.toml").read_text().split('[project.entry-points."')[1:]
    groups = [group.split("\n\n")[0].replace('"]', "]").replace('"', "") for group in text]
    (record / "entry_points.txt").write_text("".join(f"[{group}\n" for group in groups))
    return site


@pytest.fixture(scope="module")
def program(installed):
    def run(*commands, path=installed, **variables):
        """Carry out commands (lists of words) one after another in a process of their own: torch loads once."""
        paths = os.pathsep.join((str(path), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
        words = json.dumps([[str(word) for word in command] for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, words],
            env=os.environ | {"PYTHONPATH": paths} | variables, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def made(program, tmp_path_factory):
    """Collect, train, distil, evaluate in two worker processes, export, and drive in real time, in one process.

    No file of ours had to change. Returns the run's folder, the exported one, and what the program said of driving.
    """
    folder, exported = tmp_path_factory.mktemp("runs") / "two-link", tmp_path_factory.mktemp("exported") / "arm"
    settings = ("--preset", "gym-tiny", "--task", "two-link", "--run", folder)
    ranked = (*settings, "--selector", "nearest")
    said = program(
        ("collect", *settings, "--behaviours", "two_link:expert"),
        ("train", "nearest", *settings),
        ("train", "teacher", *ranked, "--guidance", "0"),
        ("pairs", *settings),
        ("train", "dnk", *ranked),
        ("evaluate", *settings, "--evaluate.workers", "2", "--evaluate.engines", "--no-pictures"),
        ("export", folder / "dnk-0", "--format", "onnx", "--out", exported),
        ("run", "--checkpoint", exported, "--timeout", "0.6", "--clock", "real"),
    )
    return folder, exported, json.loads(said[said.rindex("\n{") :])


def test_the_users_part_is_short():
    lines = sum(len(path.read_text().splitlines()) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".xml"))
    assert lines < 150


@pytest.mark.slow
def test_it_is_evaluated_by_its_own_selector_and_metric(made):
    rows = json.loads((made[0] / "evaluation" / "comparison.json").read_text())["rows"]
    assert {"teacher-nearest", "dnk-nearest", "dnk-unselected"} <= rows.keys()
    assert rows["dnk-nearest"]["variant"]["selector"] == "nearest"
    left = rows["dnk-nearest"]["left_mm"]
    assert left["n"] > 0
    assert 0 < left["mean"] < 1200


@pytest.mark.slow
def test_it_is_exported_and_driven_in_real_time(made):
    _, folder, driven = made
    contract = json.loads((folder / "contract.json").read_text())
    assert contract["control"]["control_dt"] == 0.02
    assert driven["executed_steps"] >= 20
    assert driven["held_commands"] == 0


@pytest.mark.slow
def test_an_exported_folder_acts_where_its_package_is_not_and_what_would_simulate_it_says_so(made):
    code = f"""
import numpy as np
from onestride import Engine
from onestride.cli import main
engine = Engine.from_folder({str(made[1])!r})
print(engine.decide(np.zeros(6)).action.shape, engine.control.name)
main(["run", "--checkpoint", {str(made[1])!r}])
"""
    paths = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | paths, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "(2,) two-link\n"), done.stderr
    assert "is of a task that is not known here: there is no task 'two-link'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_package_a_file_is_enough(program, tmp_path):
    """By FILE.py:NAME; later commands know it by that again, or by the environment variable."""
    file = PACKAGE / "src" / "two_link" / "__init__.py"
    settings = ("--preset", "gym-tiny", "--task", f"{file}:two_link", "--run", tmp_path / "run")
    program(
        ("collect", *settings, "--amount", "500", "--behaviours", f"{file}:expert"),
        ("train", "returns", *settings),
        path=tmp_path,
    )
    named = {"ONESTRIDE_TASKS": f"{file}:two_link"}
    program(("train", "iql", "--preset", "gym-tiny", "--run", tmp_path / "run"), path=tmp_path, **named)
