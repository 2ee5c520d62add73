"""Many requests, and many frames that are none: nothing crashes, nothing hangs, and memory stays level."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from malformed import Tally, frames
from onestride.serving.client import RemotePolicy
from onestride.serving.messages import pack
from served import received, served_alone

SEEN = {"state": np.array([4.0, 0.0, 0.0])}


def resident_mb(process) -> float:
    """The memory that a process holds, or 0 where the system does not say."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1e3 if found else 0.0


def send_malformed(url, count, seed=0):
    with connect(url, compression=None, proxy=None) as connection:
        received(connection)
        tally = Tally()
        for frame in frames(pack(SEEN), count, seed):
            connection.send(frame)
            tally.add(connection.recv(timeout=20))
        tally.check(count)
        connection.send(pack(SEEN))
        assert received(connection)["actions"][0, 0] == 4.0


def send_requests(url, count):
    with RemotePolicy(url, timeout=20.0) as remote:
        for n in range(count):
            np.testing.assert_array_equal(remote.infer(SEEN)["actions"], [[4.0, n + 1.0]])


@pytest.mark.slow
def test_some(capfd):
    with served_alone() as (process, url):
        send_requests(url, 300)
        send_malformed(url, 600)
        assert process.poll() is None
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_ten_thousand_of_each(capfd):
    with served_alone() as (process, url):
        send_requests(url, 1000)
        send_malformed(url, 1000, seed=1)
        before = resident_mb(process)
        send_requests(url, 10_000)
        send_malformed(url, 10_000)
        assert process.poll() is None
        assert resident_mb(process) < before + 5.0
    assert "Traceback" not in capfd.readouterr().err
