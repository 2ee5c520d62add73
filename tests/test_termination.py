"""What a scheduler, `docker stop` or a closed terminal ends goes on where it was, to the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from onestride.cli import main
from onestride.files import MODEL
from onestride.tensors import load_tensors
from onestride.training.state import STATE

#: The program, not under nohup, which says when it is at a step, and waits there for its signal.
STOPPED = """
import signal, sys
from onestride.cli import main
from onestride.training.datasets import Order

rows = Order.rows

def at_a_step(self, step):
    if step == 12:
        print("here", flush=True)
        sys.stdin.readline()
    return rows(self, step)

Order.rows = at_a_step
signal.signal(signal.SIGHUP, signal.SIG_DFL)
main(sys.argv[1:])
"""
#: A command at work in the terminal of that name.
IN_A_TERMINAL = """
import os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
terminal = os.open(sys.argv[1], os.O_RDWR)
for number in range(3):
    os.dup2(terminal, number)
os.close(terminal)

from onestride.cli import main
from onestride.commands.stages import Pairs

def work(command):
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        Path(sys.argv[2]).touch()

Pairs.__call__ = work
main(["pairs"])
"""
TRAIN = ("train", "teacher", "--training.checkpoint-every", "1e6", "--run")


def test_a_closed_terminal_ends_what_is_at_work_in_it(tmp_path):
    """SIGHUP ended it at once, and nothing was kept since the last save."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL, os.ttyname(theirs), str(tmp_path / "kept")]
    with subprocess.Popen(command, start_new_session=True) as working:
        said = b""
        while b"at work" not in said:
            said += os.read(ours, 1024)
        os.close(theirs)
        os.close(ours)
        assert working.wait(60) == 128 + signal.SIGHUP
    assert (tmp_path / "kept").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_training_that_a_signal_stopped_goes_on_to_the_same_bits(number, tmp_path, capsys):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    main(["collect", "--preset", "tiny", "--run", str(whole)])
    shutil.copytree(whole, stopped)
    main([*TRAIN, str(whole)])

    command = [sys.executable, "-c", STOPPED, *TRAIN, str(stopped)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as training:
        assert training.stdout.readline() == "here\n"
        training.send_signal(number)
        _, said = training.communicate("\n", timeout=120)
    assert training.returncode == 128 + number
    assert said.endswith("onestride: stopped; the same command goes on from here\n")
    assert load_tensors(stopped / "teacher" / STATE)[1]["step"] == "13"

    capsys.readouterr()
    main([*TRAIN, str(stopped)])
    assert "going on at step 13 of 30" in capsys.readouterr().err
    assert (stopped / "teacher" / MODEL).read_bytes() == (whole / "teacher" / MODEL).read_bytes()
