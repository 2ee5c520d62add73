"""Folders that change in one step, whenever the process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onestride import folders
from onestride.files import write_json
from onestride.folders import replace_folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old(tmp_path):
    (tmp_path / "it" / "inside").mkdir(parents=True)
    for name in ("a", "b", "inside/c"):
        (tmp_path / "it" / name).write_text(f"old {name}")
    return tmp_path / "it"


def test_what_is_written_joins_or_replaces_what_was_there(old):
    def write(new):
        write_json(new / "a", "new")
        (new / "d").write_text("more")

    replace_folder(old, write, without=["inside"])
    assert content(old) == {"a": '"new"\n', "b": "old b", "d": "more"}
    assert os.listdir(old.parent) == ["it"]


def test_a_folder_that_was_not_there(tmp_path):
    replace_folder(tmp_path / "deep" / "it", lambda new: (new / "a").write_text("x"))
    assert content(tmp_path / "deep") == {"it/a": "x"}


def test_a_failure_changes_nothing(old):
    before = content(old)

    def write(new):
        write_json(new / "a", "new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(old, write)
    assert content(old) == before
    assert os.listdir(old.parent) == ["it"]


@pytest.mark.parametrize("missing", [None, "renameat2", "link"])
def test_where_the_system_has_no_such_step(old, monkeypatch, missing):
    if missing == "renameat2":
        monkeypatch.setattr(folders.ctypes, "CDLL", lambda *_, **__: object())
    if missing == "link":

        def refuses(*_):
            raise OSError(folders.errno.EPERM, "no links here")

        monkeypatch.setattr(folders.os, "link", refuses)
    replace_folder(old, lambda new: write_json(new / "a", "new"))
    assert content(old) == {"a": '"new"\n', "b": "old b", "inside/c": "old inside/c"}
    assert os.listdir(old.parent) == ["it"]


def test_a_kill_between_its_two_steps_there_is_undone(old):
    before = content(old)
    old.rename(old.with_name(".it.x.tmp.old"))
    replace_folder(old, lambda new: None)
    assert content(old) == before


SCRIPT = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import killed_everywhere
from onestride.files import write_json
from onestride.folders import replace_folder
from onestride.seals import check_files, check_seal, seal

it = Path({folder!r}) / "it"

def write(new, what):
    for name in ("a", "b"):
        write_json(new / name, what)
    seal(new / "m.json", {{}}, ["a", "b"])

def prepare():
    shutil.rmtree(it.parent)
    it.parent.mkdir()
    replace_folder(it, lambda new: write(new, "old"))

def found():
    check_files(it / "m.json", check_seal(it / "m.json")["files"])
    return (it / "a").read_text()

seen = set()

def check():
    seen.add(found())
    replace_folder(it, lambda new: write(new, "new"))
    assert found() == '"new"\\n'

killed = killed_everywhere.at_every_operation(prepare, lambda: replace_folder(it, lambda new: write(new, "new")), check)
print(killed, sorted(seen))
"""


@pytest.mark.slow
def test_killed_at_every_operation_it_is_old_or_new(tmp_path):
    (tmp_path / "run").mkdir()
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, seen = done.stdout.split(maxsplit=1)
    assert int(killed) > 20
    assert seen == "['\"new\"\\n', '\"old\"\\n']\n"
