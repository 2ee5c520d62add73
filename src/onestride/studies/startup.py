"""From starting Python to the first decision: exported folders and checkpoints in turns, each in a process of its own.

python -m onestride.studies startup exported/arm runs/demo/dnk-0 [--rounds 20] [--out results/startup/NAME.json]

An exported native folder has a row more: its first start on a machine, which builds its C files for the processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro

from onestride.checkpoint import load_config
from onestride.engine.folder import CONTRACT, load_contract
from onestride.evaluation.metrics import single
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table

COLUMNS = (
    Column("interpreter_s", "Python", "s"), Column("library_s", "library", "s"), Column("folder_s", "folder", "s"),
    Column("decision_s", "decision", "s", 3), Column("total_s", "to the first decision", "s"),
    Column("total_max_s", "slowest", "s"), Column("starts", "starts", digits=0),
)  # fmt: skip
#: What a process of its own does: the moments are of the clock that all processes share.
STARTS = """
import time
moments = [time.monotonic()]
import json, sys
if sys.argv[1] == "exported":
    from onestride import Engine as Decider
    load = Decider.from_folder
else:
    from onestride import Policy as Decider
    load = Decider.from_pretrained
moments.append(time.monotonic())
decider = load(sys.argv[2])
observation = decider.control.example
if observation is None:
    observation = [0.0] * decider.control.observation_dim
moments.append(time.monotonic())
decider.decide(observation)
moments.append(time.monotonic())
print(json.dumps(moments))
"""


def measure(folders: tyro.conf.Positional[tuple[Path, ...]], rounds: int = 20, builds: int = 3) -> dict[str, Any]:
    """Return the record of so many starts from each folder, after ``builds`` more that build its C files first."""
    if not folders:
        raise ValueError("name at least one folder: an exported engine or a checkpoint")
    kinds = {folder: kind_of(folder) for folder in folders}
    if len({name for _, name in kinds.values()}) < len(kinds):
        raise ValueError(f"two of these would be one row: {', '.join(name for _, name in kinds.values())}")
    taken: dict[str, list[list[float]]] = {name: [] for _, name in kinds.values()}
    with track("starting", rounds) as bar:
        for number in range(rounds + 1):
            for folder, (kind, name) in kinds.items():
                moments = start(kind, folder)
                if number:  # the first reads the disk and builds what is not there yet
                    taken[name].append(moments)
            bar.update(number)
    for folder, (_, name) in kinds.items():
        if ", native" in name:
            for _ in range(builds):
                with TemporaryDirectory() as cache:
                    taken.setdefault(f"{name}, first on a machine", []).append(start("exported", folder, cache))
    return {
        "config": {"rounds": rounds, "builds": builds},
        "seeds": {},
        "rows": {name: summary(moments) for name, moments in taken.items() if moments},
        "notes": ["seconds since the process was asked for, with files in memory; medians, and the slowest start"],
    }


def start(kind: str, folder: Path, cache: str | None = None) -> list[float]:
    """Return the seconds since the process was asked for: interpreter, library, folder, first decision."""
    environment = os.environ | ({"XDG_CACHE_HOME": cache} if cache is not None else {})
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STARTS, kind, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{folder} does not start: {done.stderr.strip().splitlines()[-1]}")
    return [moment - began for moment in json.loads(done.stdout)]


def kind_of(folder: Path) -> tuple[str, str]:
    """Return "exported" or "policy", and what to call the folder."""
    if (folder / CONTRACT).is_file():
        contract = load_contract(folder)
        return "exported", f"{contract['task']}, {contract['format']} {contract['precision']}"
    return "policy", f"{load_config(folder)['task']}, policy in torch"


def summary(moments: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a row's metrics of moments (starts, 4) [s] since the process was asked for.

    They are medians, but for the slowest start.
    """
    at = np.asarray(moments)
    steps = np.median(np.diff(at, axis=1, prepend=0.0), axis=0)  # each from the one before
    return {column.metric: single(float(step)) for column, step in zip(COLUMNS[:4], steps, strict=True)} | {
        "total_s": single(float(np.median(at[:, -1]))),
        "total_max_s": single(float(at[:, -1].max())),
        "starts": single(len(at)),
    }


def table(record: dict[str, Any], machine: str = "here") -> Table:
    """Return a line per row."""
    return Table(COLUMNS, {f"{name} ({machine})": row for name, row in record["rows"].items()})


def tables(results: Path) -> dict[str, Table]:
    """Return one table of all machines."""
    machines = [table(record, machine) for machine, record in records(results / "startup").items()]
    return {"startup": Table(COLUMNS, {name: row for each in machines for name, row in each.rows.items()})}
