"""What can be wrong is one line, before any process starts."""

import importlib.util
import json
import socket

import pytest

from onestride.cli import main
from onestride.viewer.server import check_port
from onestride.viewer.watch import folders_of_run, names_of, task_of_folders
from without import python_without


@pytest.fixture
def run(tmp_path):
    """A run whose policies are their configurations alone."""
    for name, task in (("teacher", "kinova"), ("dnk-0", "kinova"), ("bc-0", "pusht"), ("own-0", "nobodys-task")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"task": task, "version": 1}))
    return tmp_path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["view", *map(str, arguments)])
    assert stop.value.code == 2
    said = capsys.readouterr().err.partition("\n")[2]  # after what is begun
    assert said.count("\n") == 1
    return said


def test_teacher_and_student_are_shown_by_default(run):
    assert [path.name for path in folders_of_run(run)] == ["teacher", "dnk-0"]
    assert [path.name for path in folders_of_run(run, ("bc-0",))] == ["bc-0"]


def test_two_folders_of_the_same_name_are_told_apart(tmp_path):
    assert names_of([tmp_path / "a" / "dnk-0", tmp_path / "b" / "dnk-0", tmp_path / "c"]) == ["dnk-0-0", "dnk-0-1", "c"]


def test_an_unknown_run_or_policy_is_one_line(run, tmp_path, capsys):
    assert "has no trained policy; name another --run" in refused(capsys, "--run", tmp_path / "nowhere")
    assert "has no policy 'kdm-0'. Did you mean 'dnk-0'? There are: bc-0, dnk-0, own-0, teacher" in refused(
        capsys, "--run", run, "--methods", "kdm-0"
    )
    assert "leave --methods away" in refused(capsys, "--methods", "a", "--checkpoints", run / "dnk-0")
    assert "timeout is 0, expected" in refused(capsys, "--run", run, "--timeout", "0")


def test_policies_of_several_tasks_are_one_line(run, monkeypatch):
    monkeypatch.setattr(
        "onestride.viewer.watch.load_config", lambda folder: json.loads((folder / "config.json").read_text())
    )
    assert task_of_folders([run / "teacher", run / "dnk-0"]).name == "kinova"
    with pytest.raises(ValueError, match="of several tasks"):
        task_of_folders([run / "teacher", run / "bc-0"])
    with pytest.raises(ValueError, match="not known here: there is no task 'nobodys-task'"):
        task_of_folders([run / "own-0"])


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1:{port} .*; choose another --port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.slow
def test_without_viser_its_extra_is_named_and_everything_else_can_be_imported():
    code = """
import onestride.viewer.drawing, onestride.viewer.panel, onestride.viewer.loops, onestride.viewer.tap
from onestride.errors import report_user_errors
from onestride.viewer.watch import check_viser
with report_user_errors():
    check_viser()
"""
    done = python_without(["viser"], code, check=False)
    assert (done.returncode, done.stderr) == (2, 'onestride: this needs viser: pip install "onestride[viewer]"\n')


@pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="viser is not installed (onestride[viewer])")
def test_viser_that_is_there_is_found():
    from onestride.viewer.watch import check_viser

    check_viser()
