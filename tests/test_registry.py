"""Names of what is plugged in from outside."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from onestride.errors import on_purpose
from onestride.own_code import OwnCodeError
from onestride.registry import Registry, UnknownNameError, attribute
from onestride.tasks import TASKS, VARIABLE
from onestride.tasks.gym import gym_task

OWN = """
from onestride.tasks.gym import gym_task

def pendulum():
    return gym_task("Pendulum-v1", name="swing-up", horizon=8)
"""


class Named:
    def __init__(self, name):
        self.name = name


def built_in():
    return Named("one")


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setenv("TEST_NAMES", "")  # and as it was before, when the test is over
    return Registry("thing", "onestride.nothing", "TEST_NAMES", {"one": built_in})


def test_what_is_built_in_is_known(registry):
    assert list(registry) == ["one"]
    assert registry["one"]().name == "one"
    assert registry.resolve("one") == "one"
    with pytest.raises(UnknownNameError, match=r"there is no thing 'on'. Did you mean 'one'\? There are: one"):
        registry.resolve("on")


def test_a_file_is_imported_where_it_is_named(registry, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class T:\n    name = 'mine'\n\ndef make():\n    return T()\n")
    assert registry.resolve(f"{file}:make") == "mine"
    assert registry["mine"]().name == "mine"
    assert os.environ["TEST_NAMES"] == f"{file}:make"  # processes that are started know it too
    again = Registry("thing", "onestride.nothing", "TEST_NAMES", {})
    assert "mine" in again


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nothing.py:make", "there is no file"),
        ("no_such_module:make", "there is no module 'no_such_module' to import"),
        ("json:dumpss", "json has no 'dumpss'; did you mean 'dumps'?"),
        ("json:", "is no FILE.py:NAME or MODULE:NAME"),
    ],
)
def test_what_cannot_be_imported_is_said(registry, reference, said):
    with pytest.raises(UnknownNameError, match=said.replace("?", r"\?")):
        registry.resolve(reference)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef make(:\n", "{file}:2: SyntaxError: "),
        ("x = 1\nx = 1 / 0\n", "{file}:2 raised ZeroDivisionError: division by zero\n  File"),
        ("def make():\n    return dict()['size']\n", "{file}:2 raised KeyError: 'size'\n  File"),
        ("import json\nx = json.loads('{')\n", "{file}:2 raised JSONDecodeError: "),
        ("x = 1\nimport no_such_module\n", "{file}:2 imports 'no_such_module', which is not there: install it"),
    ],
)
def test_an_error_in_a_file_is_told_by_its_line(registry, text, said, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(text)
    for _ in range(2):  # nothing of it is left behind
        with pytest.raises(OwnCodeError) as error:
            registry.resolve(f"{file}:make")
        assert str(error.value).startswith(said.format(file=file))
        assert "registry.py" not in str(error.value)
        assert on_purpose(error.value)  # so that the program prints it in place of a traceback


def test_what_this_library_refuses_in_a_file_is_said_as_it_is(registry, tmp_path):
    (tmp_path / "refused.py").write_text(OWN.replace("horizon=8", "scailing=None"))
    with pytest.raises(ValueError, match=r"^gym_task takes no scailing"):
        registry.resolve(f"{tmp_path / 'refused.py'}:pendulum")


def test_a_name_that_is_taken_is_refused(registry, tmp_path):
    (tmp_path / "mine.py").write_text("class T:\n    name = 'one'\n\ndef make():\n    return T()\n")
    with pytest.raises(UnknownNameError, match="makes a thing named 'one', and there is another of that name"):
        registry.add(f"{tmp_path / 'mine.py'}:make")


def test_a_gymnasium_environment_is_a_task_by_its_name():
    task = TASKS["gym:Reacher-v5"]()
    assert (task.name, task.control.observation_dim, task.control.action_dim) == ("gym:Reacher-v5", 10, 2)
    assert task.control.control_dt == pytest.approx(0.02)
    assert task.plans.starts_with_observation
    with pytest.raises(ValueError, match="expected a flat Box"):
        TASKS["gym:CartPole-v1"]()
    with pytest.raises(ValueError, match="there is no environment 'Nothing-v0'"):
        TASKS["gym:Nothing-v0"]()
    # It was given up. What Gymnasium says of it depends on what else was imported: Gymnasium-Robotics has its own.
    with pytest.raises(ValueError, match=r"^there is no environment 'Reacher-v2'. Gymnasium says \"[^(]"):
        TASKS["gym:Reacher-v2"]()


def test_settings_of_a_gymnasium_task_are_its_own_or_its_controls():
    task = gym_task("Pendulum-v1", frozen_after=math.inf, early_oversampling=(5, 2))
    assert (task.control.frozen_after, task.early_oversampling) == (math.inf, (5, 2))
    with pytest.raises(ValueError, match="gym_task takes no scailing; beside its own arguments"):
        gym_task("Pendulum-v1", scailing=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"horizon": 0}, "horizon is 0, expected at least 1"),
        ({"control_dt": -1.0}, "control_dt is -1.0, expected a positive number of seconds"),
        ({"control_dt": 0.0}, "control_dt is 0.0, expected a positive number of seconds"),
        ({"name": "swing up"}, "name is 'swing up', expected letters"),
        ({"name": "swing/up"}, "name is 'swing/up', expected letters"),
    ],
)
def test_a_gymnasium_task_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        gym_task("Pendulum-v1", **settings)


def test_a_name_from_data_imports_nothing(tmp_path, monkeypatch):
    """Neither a file nor a module that an environment's id names."""
    (tmp_path / "trap.py").write_text("raise SystemExit(99)")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (f"{tmp_path / 'trap.py'}:make", "trap:make", "gym:trap:Env-v0"):
        assert name not in TASKS


def test_a_file_may_import_the_files_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_it.py").write_text("WORD = 'here'")
    (tmp_path / "importing.py").write_text("from beside_it import WORD")
    assert attribute(f"{tmp_path / 'importing.py'}:WORD", "task") == "here"


@pytest.mark.slow
def test_a_task_of_a_file_goes_through_the_program(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    code = f"""
import os
from onestride.cli import main
def said(task):
    try:
        main(["import", "nothing.npz", "--run", "run", "--task", task])
    except SystemExit:
        pass
said("swing-up")
os.environ[{VARIABLE!r}] = {str(tmp_path / "own.py:pendulum")!r}
said("swing-up")
"""
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}

    def errors(*command):
        started = [sys.executable, *command]
        return subprocess.run(started, cwd=tmp_path, env=environment, capture_output=True, text=True).stderr

    by_file = errors("-m", "onestride", "import", "nothing.npz", "--run", "run", "--task", "own.py:pendulum")
    assert "nothing.npz does not exist" in by_file  # the task is known by then
    unknown, known = errors("-c", code).split("nothing.npz does not exist")
    assert "there is no task 'swing-up'" in unknown
    assert "there is no task" not in known


def test_a_function_that_returns_nothing_is_named(tmp_path):
    (tmp_path / "empty.py").write_text("def robot():\n    pass\n")
    with pytest.raises(ValueError, match=r"empty\.py:robot makes a NoneType, expected a task; does"):
        TASKS.add(f"{tmp_path / 'empty.py'}:robot")
