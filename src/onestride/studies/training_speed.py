"""How fast training runs, and what changes that: memory that is kept, threads that sleep, busy processes beside it.

python -m onestride.studies.training_speed [--preset demo] [--busy 0 2 8] [--out results/training/NAME.json]

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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro

import onestride.training.loop
from onestride.cores import WAITING
from onestride.errors import command_line, report_user_errors
from onestride.evaluation.metrics import single, summarize
from onestride.evaluation.result import Experiment
from onestride.policy.policy import make_generator
from onestride.progress import console, track
from onestride.reports.table import Column, Table, terminal
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


def main(
    preset: str = "demo", rounds: int = 3, steps: int = 60, busy: tuple[int, ...] = (), out: Path | None = None
) -> None:
    """Time trainings in turns, print the table and write the record."""
    experiment = Experiment("speed", command_line("onestride.studies.training_speed"), out)
    speeds: dict[str, list[float]] = {}
    pairs = [(kind, count) for count in busy for kind in ("teacher", "student")]
    with track("timing", rounds * (len(ROWS) + 2 * len(pairs))) as bar:

        def timed(name: str, kind: str, keep: bool, waiting: Mapping[str, str] | None) -> None:
            speeds.setdefault(name, []).append(trained_apart(preset, kind, keep, waiting, steps))
            bar.update(sum(map(len, speeds.values())), name)

        for number in range(rounds):
            for name, (kind, keep) in ROWS.items():
                timed(name, kind, keep, None)
            for kind, count in pairs:
                for way in list(WAYS)[:: 1 if number % 2 else -1]:  # each is as often the first of its round
                    with beside(count):
                        timed(f"{kind}, {count} busy, {way}", kind, True, WAYS[way])
    rows = {name: {"windows_per_s": summarize(speeds[name], [0] * rounds)} for name in ROWS}
    rows |= {name: {"windows_per_s": single(float(np.median(v)))} for name, v in speeds.items() if name not in ROWS}
    for kind, count in pairs:
        comes, passive = (np.array(speeds[f"{kind}, {count} busy, {way}"]) for way in WAYS)
        rows[f"{kind}, {count} busy, passive"]["gain"] = single(float(np.median(passive / comes)) - 1)
    if TASKS[presets.load(preset).task]().benchmark is None:
        rows["planner"] = {"trajectories_per_s": summarize([planned() for _ in range(rounds)], [0] * rounds)}
    experiment.record(
        config={"preset": preset, "rounds": rounds, "steps": steps},
        seeds={},
        rows=rows,
        notes=[
            "student-memory-given-back: freed memory goes back to the system at once, as it does without asking",
            "beside busy processes: medians over rounds; gain: the median of each round's own ratio, less one, so that "
            "a drifting machine slows both",
        ],
        show=lambda record: console.print(terminal(Table(COLUMNS, record["rows"]), preset)),
    )


def planned() -> float:
    """Return how many of the arm's demonstrations are planned per second."""
    demonstrations.chunk(0, 0)
    began = time.perf_counter()
    made = sum(len(demonstrations.chunk(0, i)[0]) for i in range(1, 4))
    return made / (time.perf_counter() - began)


def trained_apart(preset: str, kind: str, keep: bool, waiting: Mapping[str, str] | None, steps: int) -> float:
    """Return ``trained`` of a process of its own; waiting: what says how its threads wait, None: what says so here."""
    before = dict(os.environ)
    if waiting is not None:
        for name in WAITING:
            os.environ.pop(name, None)
        os.environ.update(waiting)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(trained, preset, kind, keep, steps).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def trained(preset_name: str, kind: str, keep: bool, steps: int, rows: int = 8192) -> float:
    """Return the windows per second of one training at the preset's sizes, data held on the device."""
    preset = presets.load(preset_name)
    task = TASKS[preset.task]()
    plans, context = torch.randn(rows, task.horizon, task.transition_dim), torch.randn(rows, task.context_dim)
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


if __name__ == "__main__":
    with report_user_errors():
        tyro.cli(main, description=__doc__)
