"""In a forked child, which has no threads but its own, everything that decides acts or refuses; nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.engine.torch_runner import TorchRunner

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python from 3.12 on, of any threads
]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_child(work) -> bytes:
    """What ``work`` returns in a forked child, which is ended after 20 s."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            os.write(writes, work())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "it hung, or raised"
    return said


def decider(make, name):
    policy = make(candidates=64)
    return policy if name == "policy" else Engine.from_policy(policy, name, threads=2, draws=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["policy", "torch", "onnx", "native"])
def test_what_has_decided_decides_in_a_forked_child_too(make, observations, two_threads, name):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    decides = decider(make, name)
    torch.exp(torch.randn(1_000_000))  # on both of torch's threads, for certain
    decides.decide(observations[0])
    decides.reset(0)
    wanted = decides.decide(observations[0]).action

    def again() -> bytes:
        torch.exp(torch.randn(1_000_000))
        decides.reset(0)
        return decides.decide(observations[0]).action.tobytes()

    def by_a_thread() -> bytes:
        said = []
        thread = threading.Thread(target=lambda: said.append(again()))
        thread.start()
        thread.join()
        return said[0]

    for work in (again, by_a_thread):
        np.testing.assert_allclose(np.frombuffer(in_child(work)), wanted, atol=1e-5)
    assert torch.get_num_threads() == 2  # here as before


@pytest.mark.slow
def test_an_engine_of_onnx_runtime_is_freed_in_a_forked_child_and_the_child_ends(make, tmp_path):
    """By name, and with all that the interpreter frees at its end."""
    pytest.importorskip("onnxruntime")
    export(make(), tmp_path / "e", form="onnx", draws=1, seed=0, checkpoint=None)
    code = (
        "import os, signal, sys, numpy as np\n"
        "from onestride.engine.engine import Engine\n"
        f"engine = Engine.from_folder({str(tmp_path / 'e')!r}, threads=2)\n"
        "engine.decide(np.zeros(17))\n"
        "for by_name in (True, False):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        if by_name:\n"
        "            del engine\n"
        "        sys.exit(7)\n"
        "    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != 7:\n"
        "        sys.exit(code)\n"
        "sys.exit(7)\n"
    )
    quiet = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}  # whose thread the library itself waits for at its end
    assert subprocess.run([sys.executable, "-c", code], env=quiet, check=False).returncode == 7


def test_compiled_code_says_what_to_do_there(make, observations):
    engine = Engine.from_policy(make(), "torch", draws=1)
    assert isinstance(engine.runner, TorchRunner)
    engine.runner._process = os.getpid()  # as of a compiled one, which takes half a minute to make

    def refused() -> bytes:
        with pytest.raises(RuntimeError, match="make the engine there"):
            engine.decide(observations[0])
        return b"refused"

    engine.decide(observations[0])
    assert in_child(refused) == b"refused"
