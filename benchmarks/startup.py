"""From starting Python to the first decision: exported folders and checkpoints in turns, each in a process of its own.

python benchmarks/startup.py exported/arm runs/demo/dnk-0 [--rounds 20] [--out results/startup/NAME.json]

An exported native folder has a row more: its first start on a machine, which builds its C files for the processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro

from onestride.checkpoint import load_config
from onestride.commands.base import mendable, typed
from onestride.engine.folder import CONTRACT, load_contract
from onestride.evaluation.result import Experiment
from onestride.evaluation.startups import COLUMNS, summary
from onestride.progress import track

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
observation = decider.task.example
if observation is None:
    observation = [0.0] * decider.task.observation_dim
moments.append(time.monotonic())
decider.decide(observation)
moments.append(time.monotonic())
print(json.dumps(moments))
"""


@dataclass(frozen=True)
class Arguments:
    """Folders to start from; rounds of each, in turns."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    rounds: int = 20
    builds: int = 3
    """Starts that build the C files first."""
    out: Path | None = None


def start(kind: str, folder: Path, cache: str | None = None) -> list[float]:
    """Seconds since the process was asked for: interpreter, library, folder, first decision."""
    environment = os.environ | ({"XDG_CACHE_HOME": cache} if cache is not None else {})
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STARTS, kind, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{folder} does not start: {done.stderr.strip().splitlines()[-1]}")
    return [moment - began for moment in json.loads(done.stdout)]


def kind_of(folder: Path) -> tuple[str, str]:
    """("exported" or "policy", what to call it)."""
    if (folder / CONTRACT).is_file():
        contract = load_contract(folder)
        return "exported", f"{contract['task']}, {contract['format']} {contract['precision']}"
    return "policy", f"{load_config(folder)['task']}, policy in torch"


def main(arguments: Arguments) -> None:
    if not arguments.folders:
        raise ValueError("name at least one folder: an exported engine or a checkpoint")
    experiment = Experiment("startup", typed("benchmarks/startup.py"), arguments.out)
    kinds = {folder: kind_of(folder) for folder in arguments.folders}
    if len({name for _, name in kinds.values()}) < len(kinds):
        raise ValueError(f"two of these would be one row: {', '.join(name for _, name in kinds.values())}")
    taken: dict[str, list[list[float]]] = {name: [] for _, name in kinds.values()}
    with track("starting", arguments.rounds) as bar:
        for number in range(arguments.rounds + 1):
            for folder, (kind, name) in kinds.items():
                moments = start(kind, folder)
                if number:  # the first reads the disk and builds what is not there yet
                    taken[name].append(moments)
            bar.update(number)
    for folder, (_, name) in kinds.items():
        if ", native" in name:
            for _ in range(arguments.builds):
                with TemporaryDirectory() as cache:
                    taken.setdefault(f"{name}, first on a machine", []).append(start("exported", folder, cache))
    rows = {name: summary(moments) for name, moments in taken.items() if moments}
    for name, row in rows.items():
        print(f"{name:50s}", "  ".join(f"{c.heading} {c.cell(row)}" for c in COLUMNS))
    experiment.record(
        config={"rounds": arguments.rounds, "builds": arguments.builds},
        seeds={},
        rows=rows,
        notes=["seconds since the process was asked for, with files in memory; medians, and the slowest start"],
    )


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
