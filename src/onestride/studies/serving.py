"""What the policy server adds to a decision: an engine alone, and one of its kind through the server, in turns.

python -m onestride.studies serving exported/arm exported/pusht [--requests 10000] [--out results/serving/NAME.json]

The server is a process of its own on this machine, asked over loopback by our client.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from onestride.engine.backends import Backend
from onestride.engine.engine import Engine
from onestride.engine.loading import load_decider
from onestride.evaluation.metrics import single
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.serving.client import RemotePolicy
from onestride.serving.messages import pack
from onestride.serving.observations import example_of

COLUMNS = (
    Column("engine_ms_p50", "engine alone p50", "ms", 3), Column("engine_ms_p99", "p99", digits=3),
    Column("request_ms_p50", "through the server p50", "ms", 3), Column("request_ms_p99", "p99", digits=3),
    Column("added_ms_p50", "added p50", "ms", 3), Column("added_ms_p99", "p99", digits=3),
    Column("added_ms_max", "max", digits=3), Column("request_kb", "a request", "kB", 1),
    Column("requests", "requests", digits=0),
)  # fmt: skip
WARM_UP = 50  # requests before the first that counts
PATIENT = 30.0  # an answer may take so long [s]: this measures, and drives no robot


def measure(
    folders: tyro.conf.Positional[tuple[Path, ...]],
    requests: int = 10_000,
    engine: Backend | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Return the record of so many requests to each folder's policy, each beside a decision of the engine alone.

    engine: of folders that hold a trained policy. note: a line for the record, such as that weights are random.
    """
    if not folders:
        raise ValueError("name at least one folder: an exported engine or a checkpoint")
    rows, loads = {}, [os.getloadavg()[0]]
    for folder in folders:
        name, taken = measured(folder, requests, engine)
        if name in rows:
            raise ValueError(f"two of these would be one row: {name}")
        rows[name] = summary(taken)
        loads.append(os.getloadavg()[0])
    notes = [
        "added: a request's whole time, less what the served engine took for it. Engine alone and request in turns",
        f"one-minute load average before, and after each folder: {', '.join(f'{load:.1f}' for load in loads)}",
    ]
    config = {"requests": requests, "engine": engine}
    return {"config": config, "seeds": {}, "rows": rows, "notes": [*notes, note] if note else notes}


def measured(folder: Path, requests: int, engine: Backend | None) -> tuple[str, dict[str, np.ndarray]]:
    """Return what to call the folder's row, and its times [s] and request's size [bytes]."""
    alone = load_decider(folder, engine=engine)
    spec, rng = alone.control, np.random.default_rng(0)
    request: dict[str, Any] = dict(example_of(spec))
    for camera in spec.cameras:  # of which none is black in every corner
        request[camera.name] = rng.integers(0, 256, request[camera.name].shape, dtype=np.uint8)
    observation: Any = request if spec.fields else next(iter(request.values())).reshape(-1)
    taken = np.zeros((3, requests))
    with (
        served(folder, engine) as url,
        RemotePolicy(url, control=spec, timeout=PATIENT) as remote,
        track(f"asking {folder.name}", requests) as bar,
    ):
        for number in range(-WARM_UP, requests):
            began = time.perf_counter()
            alone.decide(observation)
            decided = time.perf_counter()
            answer = remote.infer(request)
            answered = time.perf_counter()
            if number >= 0:
                there = answer["policy_timing"]["infer_ms"] / 1e3
                taken[:, number] = decided - began, answered - decided, answered - decided - there
                bar.update(number + 1)
    runs = alone.runner.name if isinstance(alone, Engine) else "policy in torch"
    times = dict(zip(("engine", "request", "added"), taken, strict=True))
    return f"{spec.name}, {runs}", times | {"size": np.array(len(pack(request)))}


@contextmanager
def served(folder: Path, engine: Backend | None) -> Iterator[str]:
    """Serve the folder in a process of its own, and give its address."""
    command = [sys.executable, "-m", "onestride", "serve", str(folder), "--port", "0"]
    command += [] if engine is None else ["--engine", engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = (line.split()[-1] for line in process.stdout if line.startswith("listening on "))
        try:
            if (url := next(said, None)) is None:
                raise ValueError(f"{folder} is not served; `onestride serve {folder}` says why")
            yield url
        finally:
            process.terminate()


def summary(taken: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a row's metrics of times [s]: percentiles [ms]."""
    made = {}
    for name in ("engine", "request", "added"):
        ms = 1e3 * taken[name]
        values = (*np.percentile(ms, (50, 95, 99, 99.9)), ms.max())
        made |= {
            f"{name}_ms_{q}": single(float(v))
            for q, v in zip(("p50", "p95", "p99", "p999", "max"), values, strict=True)
        }
    return made | {
        "request_kb": single(float(taken["size"]) / 1e3),
        "requests": single(len(taken["request"])),
    }


def table(record: dict[str, Any], machine: str = "here") -> Table:
    """Return a line per row."""
    return Table(COLUMNS, {f"{name} ({machine})": row for name, row in record["rows"].items()}, tuple(record["notes"]))


def tables(results: Path) -> dict[str, Table]:
    """Return one table of all machines."""
    found = records(results / "serving")
    rows = {name: row for machine, record in found.items() for name, row in table(record, machine).rows.items()}
    return {"serving": Table(COLUMNS, rows)} if rows else {}
