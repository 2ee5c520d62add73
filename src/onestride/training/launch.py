"""Start a command in several processes that train together, and again from the last checkpoint where one is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any

from onestride.cores import COUNTING, usable_cores
from onestride.progress import console
from onestride.termination import Terminated
from onestride.training.ranks import LAUNCHER

RESTARTS = 3  # times that all of them are begun again after one was killed
LOOK = 0.1  # between looks whether they still run [s]
SETTLE = 1.0  # after the first has ended: others that failed because of it end too [s]
PATIENCE = 120.0  # that they are given to write their state after Ctrl-C, SIGTERM or SIGHUP [s]


def launch(command: Sequence[str], count: int) -> int:
    """Run a command in ``count`` processes and return its exit code, that of the first to fail.

    The first process has this one's terminal; of the others only an error is shown, where the first has none.
    """
    code = 0
    for again in range(RESTARTS + 1):
        code = _once(command, count)
        if code >= 0:
            return code
        if again < RESTARTS:
            console.print(
                f"onestride: one of {count} processes was killed (signal {-code}); all begin again from the last "
                f"checkpoint, {again + 1} of {RESTARTS}",
                highlight=False,
            )
    return 128 - code


def _once(command: Sequence[str], count: int) -> int:
    """Exit code, or the negative number of the signal that ended one of them."""
    with ExitStack() as files:
        said = [files.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        processes = [_start(command, rank, count, port, said[rank]) for port in [_free_port()] for rank in range(count)]
        try:
            codes = _wait(processes)
        except (KeyboardInterrupt, Terminated) as ending:
            for process in processes:
                process.send_signal(signal.SIGINT if isinstance(ending, KeyboardInterrupt) else signal.SIGTERM)
            codes = _wait(processes, time.monotonic() + PATIENCE)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed and failed[0] and min(codes) >= 0:
            said[failed[0]].seek(0)
            sys.stderr.write(said[failed[0]].read().decode(errors="replace"))
    return min(codes) if min(codes) < 0 else next((code for code in codes if code), 0)


def _start(command: Sequence[str], rank: int, count: int, port: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), LAUNCHER: str(os.getpid()),
    }  # fmt: skip
    if not any(name in os.environ for name in COUNTING):
        environment["OMP_NUM_THREADS"] = str(max(1, usable_cores() // count))
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": said} if rank else {}
    # In a session of their own: Ctrl-C reaches this process, which passes it on once.
    made: Any = subprocess.Popen(list(command), env=environment, start_new_session=True, **quiet)
    return made


def _wait(processes: Sequence[subprocess.Popen[bytes]], until: float = float("inf")) -> list[int]:
    """Exit codes: when all have ended, or some moments after the first has failed; 0 of those that still run."""
    while time.monotonic() < until:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            break
        if any(codes):
            until = min(until, time.monotonic() + SETTLE)
        time.sleep(LOOK)
    return [process.poll() or 0 for process in processes]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
