"""What a scheduler or `docker stop` ends by SIGTERM goes on where it was, to the same bits."""

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

#: The program, which says when it is at a step, and waits there for its signal.
STOPPED = """
import sys
from onestride.cli import main
from onestride.training.datasets import Order

rows = Order.rows

def at_a_step(self, step):
    if step == 12:
        print("here", flush=True)
        sys.stdin.readline()
    return rows(self, step)

Order.rows = at_a_step
main(sys.argv[1:])
"""
TRAIN = ("train", "teacher", "--training.checkpoint-every", "1e6", "--run")


@pytest.mark.slow
def test_a_training_that_sigterm_stopped_goes_on_to_the_same_bits(tmp_path, capsys):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    main(["collect", "--preset", "tiny", "--run", str(whole)])
    shutil.copytree(whole, stopped)
    main([*TRAIN, str(whole)])

    command = [sys.executable, "-c", STOPPED, *TRAIN, str(stopped)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as training:
        assert training.stdout.readline() == "here\n"
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate("\n", timeout=120)
    assert training.returncode == 143
    assert said.endswith("onestride: stopped; the same command goes on from here\n")
    assert load_tensors(stopped / "teacher" / STATE)[1]["step"] == "13"

    capsys.readouterr()
    main([*TRAIN, str(stopped)])
    assert "going on at step 13 of 30" in capsys.readouterr().err
    assert (stopped / "teacher" / MODEL).read_bytes() == (whole / "teacher" / MODEL).read_bytes()
