"""Processes that are started together: one that is killed makes all begin again, and one that fails ends all."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from onestride.termination import heard
from onestride.training.launch import launch

#: Each notes that it began. The second one is killed the first time.
KILLED = """
import os, signal, sys, pathlib, time
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
begun = len(list(folder.glob(f"{rank}-*")))
(folder / f"{rank}-{begun}").write_text(" ".join(os.environ[n] for n in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")))
if rank == "1" and begun < int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60 if begun < int(sys.argv[2]) else 0)
"""
#: The second one cannot, and says why; the first one waits for it.
FAILS = """
import os, sys, time
if os.environ["RANK"] == "0":
    print("the first speaks", file=sys.stderr)
    time.sleep(60)
print("the second cannot", file=sys.stderr)
sys.exit(2)
"""


def python(code, *arguments):
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


@pytest.mark.slow
def test_all_begin_again_when_one_is_killed(tmp_path, capfd):
    assert launch(python(KILLED, tmp_path, 1), 2) == 0
    assert "one of 2 processes was killed (signal 9); all begin again" in " ".join(capfd.readouterr().err.split())
    said = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert set(said) == {"0-0", "1-0", "0-1", "1-1"}
    assert [said[name][:2] for name in ("0-1", "1-1")] == [["2", "0"], ["2", "1"]]
    assert said["0-1"][2] == said["1-1"][2]


@pytest.mark.slow
def test_one_that_is_killed_again_and_again_ends_it(tmp_path):
    assert launch(python(KILLED, tmp_path, 9), 2) == 128 + 9
    assert len(list(tmp_path.glob("1-*"))) == 4


@pytest.mark.slow
def test_one_that_fails_ends_all_and_is_heard(capfd):
    assert launch(python(FAILS), 2) == 2
    assert set(capfd.readouterr().err.split("\n")) >= {"the first speaks", "the second cannot"}


#: Each takes SIGTERM as a training does, with a moment in which its state is written.
KEEPS = """
import os, signal, sys, pathlib, time
def keep(number, frame):
    time.sleep(0.2)
    (pathlib.Path(sys.argv[1]) / os.environ["RANK"]).write_text("kept")
    sys.exit(143)
signal.signal(signal.SIGTERM, keep)
(pathlib.Path(sys.argv[1]) / f"ready-{os.environ['RANK']}").touch()
time.sleep(60)
"""


def test_sigterm_is_passed_on_and_waited_for(tmp_path):
    def terminate():
        while len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    with heard():
        thread.start()
        assert launch(python(KEEPS, tmp_path), 2) == 143
        thread.join()
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["kept", "kept"]
