"""A policy that is served while a test runs, and policies that do as they are told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from onestride.robot.control_spec import ControlSpec, plain_control
from onestride.robot.decision import Decision
from onestride.serving.messages import unpack
from onestride.serving.server import PolicyServer


def spec_of(n: int = 3, horizon: int = 4) -> ControlSpec:
    """A body of ``n`` numbers with two commands."""
    return plain_control(
        name="body", observation_dim=n, horizon=horizon, control_dt=0.05, low=[-1e6] * 2, high=[1e6] * 2
    )


class Told:
    """Its commands are the observation's first two numbers and the noise's, which counts decisions since a reset.

    before: called with every observation, to be slow or to fail.
    """

    def __init__(self, control: ControlSpec | None = None, before=lambda observation: None) -> None:
        self.control, self.before, self.noise = control or spec_of(), before, 0

    def reset(self, seed: int = 0) -> None:
        self.noise = 100 * seed

    def decide(self, observation: np.ndarray) -> Decision:
        self.control.validate_observation(observation)
        self.noise += 1
        self.before(observation)
        plan = np.zeros((self.control.horizon, self.control.transition_dim), np.float32)
        plan[:, self.control.state_dim :] = [observation[0], self.noise]
        plan[:, -2] += np.arange(self.control.horizon)
        return Decision(plan[0, -2:].astype(float), plan, plan[None], np.zeros(1), {"total": 0.0})


@contextmanager
def served(policy, **options) -> Iterator[str]:
    """Serve a policy in a thread, and give its address."""
    server, ready = PolicyServer(policy, **({"port": 0} | options)), threading.Event()
    running: list = []

    async def run() -> None:
        running.extend((asyncio.get_running_loop(), asyncio.Event()))
        await server.serve(ready.set, running[1])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server.url
    finally:
        running[0].call_soon_threadsafe(running[1].set)
        thread.join(10)
        assert not thread.is_alive()


#: A server in a process of its own, which may be killed.
ALONE = """
import sys
sys.path.insert(0, {tests!r})
from served import Told
from onestride.serving.server import PolicyServer
server = PolicyServer(Told(), port=int(sys.argv[1]))
server.serve_forever(ready=lambda: print(server.url, flush=True))
"""


@contextmanager
def served_alone(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve ``Told`` in a process of its own, and give that and the address."""
    command = [sys.executable, "-c", ALONE.format(tests=str(Path(__file__).parent)), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def received(connection) -> dict:
    """The next answer of a connection, which is no error."""
    message = connection.recv(timeout=10)
    assert isinstance(message, bytes), message
    return unpack(message)
