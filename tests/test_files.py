"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from onestride.files import (
    CheckpointError,
    all_or_nothing,
    ensure_free_space,
    exclusive,
    read_json,
    size_of_file,
    write_atomically,
    write_json,
)
from onestride.tensors import load_tensors, save_tensors


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_is_one_processes_until_it_ends_or_is_killed(tmp_path):
    holds = "import sys, time\nfrom pathlib import Path\nfrom onestride.files import exclusive\n"
    holds += "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    folder = tmp_path / "deeper" / "run"
    with subprocess.Popen([sys.executable, "-c", holds, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=r"another process is at work on .*run"), exclusive(folder):
            pytest.fail("two hold it")
        with exclusive(tmp_path / "deeper" / "other"):
            pass
        other.kill()
    with exclusive(folder):
        assert not folder.exists()  # it is the worker's to make
    with pytest.raises(ZeroDivisionError), exclusive(folder):
        raise ZeroDivisionError
    with exclusive(folder):
        pass


@contextmanager
def no_file_larger_than(size):
    """The kernel itself refuses to write on, as it does on a full disk (only the error's number differs)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "deeper" / "file"
    for text in ("old", "new"):
        write_atomically(path, lambda p, text=text: p.write_text(text))
        assert path.read_text() == text
        assert names(path.parent) == ["file"]
        assert path.stat().st_mode & 0o777 == 0o644


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        assert temporary.parent.parent == path.parent  # on the same disk, so that replacing is one step
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"


def test_putting_it_in_place_is_one_step(tmp_path):
    """The old bytes are never written over: who has the old file open, or a link to it, still reads it whole."""
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "link").hardlink_to(path)
    with path.open() as reader:
        write_atomically(path, lambda p: p.write_text("newer"))
        assert reader.read() == "old"
    assert (tmp_path / "link").read_text() == "old"
    assert path.read_text() == "newer"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fills_the_disk(temporary):
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"could not write .*No space left.*unchanged.*[Ff]ree some space") as caught:
        write_atomically(path, fills_the_disk)
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_device_that_is_full(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="unchanged") as caught:
        write_atomically(path, lambda _: Path("/dev/full").write_text("new"))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError])
def test_whatever_stops_the_writer_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def stops(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, stops)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_cleared_away_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    code = (
        "import os, signal, sys; from pathlib import Path; from onestride.files import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), lambda p: (p.write_text('half'), os.kill(os.getpid(), signal.SIGKILL)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    write_atomically(path, lambda p: p.write_text("new"))
    assert left.exists()  # somebody may still be writing it
    (tmp_path / ".file.jsonl.x.tmp").mkdir()
    os.utime(left, (0, 0))
    write_atomically(path, lambda p: p.write_text("newest"))
    assert left.exists()  # what is in it is new
    for abandoned in (tmp_path / ".file.jsonl.x.tmp", *left.iterdir(), left):
        os.utime(abandoned, (0, 0))
    write_atomically(path, lambda p: p.write_text("newer"))
    assert names(tmp_path) == [".file.jsonl.x.tmp", "file.json"]
    assert path.read_text() == "newer"


def test_whoever_holds_a_folder_clears_what_killed_writers_left_in_it(tmp_path):
    """Also what libraries had put beside the file: a whole training state for every kill."""
    held, other = tmp_path / "held", tmp_path / "other"
    for folder in (held, other):
        (folder / ".state.safetensors.x.tmp").mkdir(parents=True)
        (folder / ".state.safetensors.x.tmp" / ".tmpPr0H15").write_text("half")
        (folder / ".state.safetensors.y.tmp").mkdir()  # new
        for path in ((folder / ".state.safetensors.x.tmp") / ".tmpPr0H15", folder / ".state.safetensors.x.tmp"):
            os.utime(path, (0, 0))
        (folder / ".kept").write_text("")
    with exclusive(held):
        assert names(held) == [".kept", ".state.safetensors.y.tmp"]
    assert names(other) == [".kept", ".state.safetensors.x.tmp", ".state.safetensors.y.tmp"]


def test_files_that_belong_together_are_all_there_or_none(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    paths[2].write_text("somebody's")

    def fill():
        with all_or_nothing(paths):
            paths[0].write_text("mine")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert names(tmp_path) == ["c"]
    with all_or_nothing(paths):
        paths[0].write_text("mine")
    assert names(tmp_path) == ["a", "c"]


def test_room_is_asked_for_before(tmp_path):
    ensure_free_space(tmp_path, 1)
    with pytest.raises(OSError, match=r"MB are free there\. Free some space") as caught:
        ensure_free_space(tmp_path, 1 << 60)
    assert caught.value.errno == errno.ENOSPC


def test_no_room_for_json(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with no_file_larger_than(20_000), pytest.raises(OSError, match=r"could not write .*unchanged"):
        write_json(tmp_path / "a.json", list(range(100_000)))
    assert read_json(tmp_path / "a.json") == [1]
    assert names(tmp_path) == ["a.json"]


def test_no_room_for_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.arange(3)})
    with no_file_larger_than(20_000), pytest.raises(OSError, match=r"could not write .*unchanged"):
        save_tensors(path, {"x": torch.zeros(100_000)})
    assert torch.equal(load_tensors(path)[0]["x"], torch.arange(3))
    assert names(tmp_path) == ["a.safetensors"]


def test_json_never_holds_what_json_has_not(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"x": 1}


def test_tensors_and_header_there_and_back(tmp_path):
    tensors = {
        "transposed": torch.arange(6.0).view(2, 3).T,
        "whole": torch.tensor([1, 2]),
        "flags": torch.tensor([True, False]),
        "half": torch.randn(5, dtype=torch.bfloat16),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }
    save_tensors(tmp_path / "a", tensors, {"who": "me"})
    found, header = load_tensors(tmp_path / "a")
    assert header == {"who": "me"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in tensors.items())


def test_only_a_regular_file_has_a_size(tmp_path):
    file = tmp_path / "numbers"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(file)
    assert size_of_file(file) == size_of_file(tmp_path / "link") == 5
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
        (tmp_path / "nothing", "No such file"),
    ):
        with pytest.raises(CheckpointError, match=what):
            size_of_file(path)
