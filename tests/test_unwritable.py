"""Where nothing can be written, one line says what, why, and what to do."""

import errno
import os
from pathlib import Path

import pytest

from onestride.errors import report_user_errors
from onestride.files import ensure_writable, exclusive, write_json
from onestride.folders import replace_folder
from onestride.unwritable import unwritable
from typed import refused


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "this user may not write in HERE; name another place"),
        (errno.EROFS, "HERE is on a file system that is read-only; name another place"),
        (errno.ENOENT, "there is no such folder, and none can be made in HERE; name another place"),
        (errno.ENOSPC, "No space left on device; free some space, then run the same command again"),
        (errno.ELOOP, "Too many levels of symbolic links; name another place"),
    ],
)
def test_the_folder_that_is_there_is_named(number, said, tmp_path, monkeypatch):
    error = OSError(number, os.strerror(number), "whatever")
    for folder, here in ((tmp_path / "a" / "b", str(tmp_path)), (tmp_path, "it")):
        made = unwritable(folder, error)
        assert (made.errno, made.strerror) == (number, f"{folder} cannot be written: {said.replace('HERE', here)}")
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in str(unwritable(Path("a"), error)) or "HERE" not in said


@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_file_is_no_folder(below, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / below
    here = f"{tmp_path / 'file'}" if below else "it"
    said = f"{folder} cannot be written: {here} is a file, not a folder; name another place$"
    for write in (
        lambda: ensure_writable(folder),
        lambda: exclusive(folder / "data").__enter__(),
        lambda: write_json(folder / "it.json", {}),
        lambda: replace_folder(folder / "it", lambda _new: None),
    ):
        with pytest.raises(OSError, match=said):
            write()


@pytest.mark.parametrize(
    "command", ["collect --preset tiny", "quickstart --preset tiny", "import MINE --task gym:Pendulum-v1"]
)
def test_a_run_folder_that_is_a_file_is_one_line(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = command.replace("MINE", str(tmp_path / "mine.npz")).split()
    for run in (tmp_path / "file", tmp_path / "file" / "x"):
        last = refused(capsys, *words, "--run", str(run)).splitlines()[-1]
        assert last.startswith(f"onestride: {tmp_path / 'file'}")
        assert last.endswith("is a file, not a folder; name another place")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b cannot be used (Permission denied)"),
        (OSError(errno.EXDEV, "no link", "/a", None, "/b"), "/a and /b cannot be used (no link)"),
        (OSError(errno.ENOSPC, "a sentence of ours"), "a sentence of ours"),
        (FileNotFoundError("a sentence of ours"), "a sentence of ours"),
    ],
)
def test_the_systems_number_of_an_error_is_no_part_of_what_is_said(error, said, capsys):
    with pytest.raises(SystemExit), report_user_errors():
        raise error
    assert capsys.readouterr().err == f"onestride: {said}\n"
