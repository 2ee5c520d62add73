"""``onestride serve``: what it refuses in a line, when it listens, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from onestride.cli import main
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.errors import EXTRAS
from onestride.serving.address import KEY
from onestride.serving.client import RemotePolicy
from without import python_without


def started(*arguments, **environment):
    """The program, and the address that it printed when it was ready."""
    command = [sys.executable, "-m", "onestride", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines[1].startswith("listening on "), (lines, process.communicate()[1])
    return process, lines[1].split()[-1], lines[0]


@pytest.mark.slow
def test_a_checkpoint_is_served_until_ctrl_c(make_arm_policy, observation, tmp_path):
    policy = make_arm_policy("student")
    policy.save(tmp_path / "dnk-0", {})
    process, url, first = started(tmp_path / "dnk-0", **{KEY: "secret"})
    assert "dnk-0 (kinova): " in first
    with pytest.raises(ConnectionError, match="HTTP 401"):
        RemotePolicy(url)
    with RemotePolicy(url, api_key="secret", timeout=20.0) as remote:
        assert remote.metadata["policy"] == "dnk-0"
        policy.reset(0)
        np.testing.assert_array_equal(remote.decide(observation).action, policy.decide(observation).action)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error.endswith("\nonestride: stopped\n")
    assert "Traceback" not in error
    assert "1 answers, 0 refusals" in error


def test_a_port_in_use_is_one_line_before_anything_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit, match="2"):
        main(["serve", "nowhere", "--port", str(taken.getsockname()[1])])
    said = capsys.readouterr().err
    assert "is in use: stop what listens there, or name another with --port" in said
    assert said.startswith("onestride: loading nowhere to serve it on 127.0.0.1:")
    assert said.count("\n") == 2


def test_beyond_this_machine_a_key_is_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "nowhere", "--host", "0.0.0.0", "--port", "0"])
    assert f"--host 0.0.0.0 lets other machines ask: put a key into ${KEY}" in capsys.readouterr().err
    (tmp_path / "key").write_text("\n")
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "nowhere", "--host", "0.0.0.0", "--port", "0", "--api-key-file", str(tmp_path / "key")])
    assert "the API key is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "nowhere", "--port", "0"])
    assert "nowhere" in capsys.readouterr().err


#: A folder is served and asked in one process, without torch.
WITHOUT_TORCH = """
import asyncio, sys, threading
from onestride.engine.loading import load_decider
from onestride.serving.address import KEY
from onestride.serving.client import RemotePolicy
from onestride.serving.server import PolicyServer
from pathlib import Path

server = PolicyServer(load_decider(Path(sys.argv[1])), port=0)
server.warm_up(2)
ready = threading.Event()

async def run():
    global loop, stop
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    await server.serve(ready.set, stop)

thread = threading.Thread(target=asyncio.run, args=(run(),))
thread.start()
ready.wait()
with RemotePolicy(server.url, timeout=20.0) as remote:
    print(remote.decide(remote.control.example).action.tolist(), "torch" in sys.modules)
loop.call_soon_threadsafe(stop.set)
thread.join()
"""


def test_an_exported_folder_is_served_without_torch(make_arm_policy, tmp_path):
    export(make_arm_policy("student"), tmp_path / "e", form="native", draws=4, seed=0, checkpoint=None)
    engine = Engine.from_folder(tmp_path / "e")
    expected = engine.decide(engine.control.example).action.tolist()
    missing = [package for package, extra in EXTRAS.items() if extra != "serve"]
    assert python_without(missing, WITHOUT_TORCH, tmp_path / "e").stdout == f"{expected} False\n"


def test_without_its_extra_one_line_says_which():
    code = "from onestride.errors import report_user_errors\nwith report_user_errors(): import onestride.serving.client"
    done = python_without(["websockets", "msgpack"], code, check=False)
    assert (done.returncode, done.stderr) == (2, 'onestride: this needs websockets: pip install "onestride[serve]"\n')
