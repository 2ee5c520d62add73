"""OpenVINO decides as the policy and as ONNX Runtime, is chosen by what it measures, and is told what others are."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from tests.engine.test_forks import in_child
from tests.engine.test_whole import SEED, decide_alike, with_two_calls

from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.engine.folder import load_contract, load_runners
from onestride.engine.openvino_runner import OpenVinoRunner

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


def test_an_engine_of_it_decides_as_the_policy(make, observations):
    policy = with_two_calls(make(selector="iql"))
    engine = Engine.from_policy(policy, "openvino", threads=1, draws=len(observations), seed=SEED, plan=True)
    assert (engine.nfe, engine.runner.name) == (2, "openvino, 1 thread")
    decide_alike(engine, policy, observations)


@pytest.mark.slow
def test_a_folder_runs_on_the_sooner_done_of_both(make, observations, tmp_path):
    folder = tmp_path / "e"
    export(make(), folder, form="onnx", draws=2, seed=0, checkpoint=None)
    runners = load_runners(folder, load_contract(folder), "CPUExecutionProvider", 1)
    assert [runner.name for runner in runners] == ["onnx, 1 thread", "openvino, 1 thread"]
    row = observations[0].astype(np.float32)
    one, other = (runner.run(row, 1) for runner in runners)
    np.testing.assert_allclose(other.action, one.action, atol=1e-5)
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-4, rtol=1e-5)
    assert other.winner == one.winner
    chosen = Engine.from_folder(folder, threads=1).chosen
    assert "onnx" in chosen
    assert "openvino" in chosen


@pytest.mark.slow
def test_a_forked_child_is_told_to_make_its_own(make, observations, tmp_path):
    folder = tmp_path / "e"
    export(make(), folder, form="onnx", draws=1, seed=0, checkpoint=None)
    runner = OpenVinoRunner((folder / "model.onnx").read_bytes(), 1)
    row = observations[0].astype(np.float32)
    runner.run(row, 0)

    def refused() -> bytes:
        with pytest.raises(RuntimeError, match="make the engine there"):
            runner.run(row, 0)
        return b"refused"

    assert in_child(refused) == b"refused"
    assert os.getpid() == runner.process


SIGNALLED = """
import faulthandler, gc, pathlib, signal, sys
from onestride.engine.openvino_runner import OpenVinoRunner
faulthandler.enable()
graph = pathlib.Path(sys.argv[1]).read_bytes()
first, second = OpenVinoRunner(graph, 1), OpenVinoRunner(graph, 1)
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_heard_when_engines_came_and_went(make, tmp_path):
    """The second core's end put a freed stack for signals back: the next Ctrl-C was a segmentation fault."""
    export(make(), tmp_path / "e", form="onnx", draws=1, seed=0, checkpoint=None)
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "e" / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
