"""The C++ client of the examples: built by this machine's compiler, answered, refused, and left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from websockets.sync.server import serve

from onestride.serving.messages import pack
from onestride.serving.metadata import metadata_of
from served import Told, served, served_alone, spec_of

SOURCE = Path(__file__).parents[2] / "examples" / "policy_client.cpp"
COMPILER = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("cpp") / "policy_client"
    command = [str(COMPILER), "-std=c++17", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return made


def run(program, url, *words, **environment):
    command = [str(program), "127.0.0.1", str(urlparse(url).port), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment
    )


def soon_enough(program, url, *words):
    """Run it again where a busy machine alone made an answer late."""
    for _ in range(5):
        done = run(program, url, *words)
        if not done.stderr.endswith("no answer in time\n"):
            break
    return done


def numbers(done):
    return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_it_gets_the_actions(program):
    with served(Told(replace(spec_of(), n_action_steps=2))) as url:
        done = run(program, url, 3, 0.1, -7e300 / 7e299, 3)
    assert (done.returncode, done.stderr) == (0, "task body, 2 actions of 2 numbers per request\n")
    first = float(np.float32(0.1))
    assert numbers(done) == [[row, n] for n in (1, 2, 3) for row in (first, float(np.float32(first + 1)))]


def test_it_is_told_why_there_is_no_answer(program):
    with served(Told()) as url:
        done = run(program, url, 1, 1, 2)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "refused: observation refused: 'observation' has shape (2,), expected (3,): " + spec_of().layout + "\n"
    )


def test_it_sends_its_key(program):
    with served(Told(), api_key="right") as url:
        assert run(program, url, 1, 1, 2, 3).stderr == "refused: HTTP/1.1 401 Unauthorized\n"
        assert numbers(run(program, url, 1, 1, 2, 3, ONESTRIDE_API_KEY="right")) == [[1.0, 1.0]]


@pytest.mark.slow
def test_a_server_that_is_gone_or_hangs_is_no_answer(program):
    with served_alone() as (process, url):
        os.kill(process.pid, signal.SIGSTOP)
        hangs = run(program, url, 1, 1, 2, 3)
        process.kill()
    gone = run(program, url, 1, 1, 2, 3)
    assert (hangs.returncode, hangs.stderr) == (3, "no answer: no answer in time\n")
    assert gone.returncode == 3
    assert gone.stderr.startswith("no answer: no policy server at 127.0.0.1:")


def test_large_messages_and_broken_answers(program):
    """A greeting of several frames' length; then answers cut short anywhere."""
    whole = pack({"actions": np.ones((2, 3)), "more": [None, True, -5, 2**40, -(2**40), 1.5, "x" * 70_000, {"y": 1}]})
    endless = {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [2**61, 1]}
    broken = [
        *(whole[:cut] for cut in (0, 1, 30, 60, 90, 200)),
        b"\xc1",
        b"\x91" * 100,
        b"\xdd\xff\xff\xff\xff",
        pack({"actions": endless}),
    ]
    current = whole
    greeting = pack(metadata_of(spec_of()) | {"more": "x" * 200_000})

    def handler(connection):
        connection.send([greeting[:100], greeting[100:70_000], greeting[70_000:]])
        for _ in connection:
            connection.send(current)

    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        try:
            assert numbers(run(program, url, 1, *[0.5] * 20_000)) == [[1.0] * 3] * 2
            for each in broken:
                current = each  # what the handler answers
                done = soon_enough(program, url, 1, 0)
                assert done.returncode == 3, done
                assert done.stderr.splitlines()[-1].startswith("no answer: the a")
        finally:
            server.shutdown()
            thread.join(10)
