"""How fast training runs, and what changes that: memory that is kept, threads that sleep, busy processes beside it.

python -m onestride.studies training_speed [--preset demo] [--busy 0 2 8] [--out results/training/NAME.json]

Every measurement has a process of its own, since how memory is kept and how threads wait is a process's for good. With
``--busy``, rows beside so many busy processes: "as it comes" is torch's own way to wait (awake for some milliseconds),
"passive" what the program sets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onestride.training.loop
from onestride.cores import WAITING
from onestride.evaluation.metrics import single, summarize
from onestride.policy.store import make_generator
from onestride.progress import track
from onestride.reports.table import Column, Table
from onestride.runs import presets
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.training.loop import train

COLUMNS = (
    Column("windows_per_s", "windows per s", digits=0),
    Column("gain", "gain", digits=1, kind="percent"),
    Column("trajectories_per_s", "trajectories per s", digits=0),
)
#: Rows of every measurement: a kind of training, and whether freed memory is kept.
ROWS = {"teacher": ("teacher", True), "student": ("student", True), "student-memory-given-back": ("student", False)}
WAYS: dict[str, dict[str, str]] = {"as it comes": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


def measure(preset: str = "demo", rounds: int = 3, steps: int = 60, busy: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return the record of a preset's trainings, so many steps of each in every round."""
    cases = {name: (kind, keep, None, 0) for name, (kind, keep) in ROWS.items()}
    pairs = [(kind, count) for count in busy for kind in ("teacher", "student")]
    cases |= {f"{kind}, {n} busy, {way}": (kind, True, WAYS[way], n) for kind, n in pairs for way in WAYS}
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    with track("timing", rounds * len(cases)) as bar:
        for number in range(rounds):
            for place, name in enumerate(list(cases)[:: -1 if number % 2 else 1]):  # as often before as after another
                kind, keep, waiting, count = cases[name]
                with beside(count):
                    speeds[name].append(trained_apart(preset, kind, keep, steps, waiting))
                bar.update(number * len(cases) + place + 1, name)
    rows = {name: {"windows_per_s": summarize(found, [0] * rounds)} for name, found in speeds.items()}
    for kind, count in pairs:
        comes, passive = (np.array(speeds[f"{kind}, {count} busy, {way}"]) for way in WAYS)
        rows[f"{kind}, {count} busy, passive"]["gain"] = single(float(np.median(passive / comes)) - 1)
    if TASKS[presets.load(preset).task]().benchmark is None:
        rows["planner"] = {"trajectories_per_s": summarize([planned() for _ in range(rounds)], [0] * rounds)}
    notes = [
        "student-memory-given-back: freed memory goes back to the system at once, as it does without asking",
        "gain: the median of each round's own ratio, less one, so that a drifting machine slows both",
    ]
    config = {"preset": preset, "rounds": rounds, "steps": steps, "busy": busy}
    return {"config": config, "seeds": {}, "rows": rows, "notes": notes}


def table(record: dict[str, Any]) -> Table:
    """Return a line per row."""
    return Table(COLUMNS, record["rows"])


def planned() -> float:
    """Return how many of the arm's demonstrations are planned per second."""
    demonstrations.chunk(0, 0)
    began = time.perf_counter()
    made = sum(len(demonstrations.chunk(0, i)[0]) for i in range(1, 4))
    return made / (time.perf_counter() - began)


def trained_apart(preset: str, kind: str, keep: bool, steps: int, waiting: Mapping[str, str] | None) -> float:
    """Return ``trained`` of a process of its own; waiting: what says how its threads wait, None: what says so here."""
    environment = dict(os.environ)
    if waiting is not None:
        environment = {name: value for name, value in os.environ.items() if name not in WAITING} | dict(waiting)
    code = f"from {__name__} import trained; print(trained{(preset, kind, keep, steps)})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def trained(preset_name: str, kind: str, keep: bool, steps: int, rows: int = 8192) -> float:
    """Return the windows per second of one training at the preset's sizes, data held on the device."""
    preset = presets.load(preset_name)
    task = TASKS[preset.task]()
    plans = torch.randn(rows, task.control.horizon, task.control.transition_dim)
    context = torch.randn(rows, task.context_dim)
    data = {"plans": plans, "context": context}
    if kind == "student":
        data = {"prior": plans, "target": plans.flip(0), "context": context, "weight": torch.ones(rows)}
    if not keep:
        onestride.training.loop.keep_freed_memory = lambda: False
    stage, training = preset.stage("teacher" if kind == "teacher" else "dnk"), preset.stage("teacher").training
    assert training is not None
    config = replace(training, steps=steps, checkpoint_every=1e9)
    generator = make_generator(task, stage.what, asdict(stage.config))
    _, happened = train(generator, data, config, Path("unused"), title=f"timing the {kind}", identity={})
    return steps * config.batch_size / happened["seconds"]


@contextmanager
def beside(count: int) -> Iterator[None]:
    """While so many processes compute without a pause."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
