"""What units of work cost, how much two processes of Ray do, and what 10, 100 and 1000 machines would give.

python -m onestride.studies scale --run RUN [--student dnk] [--rounds 2] [--out results/scale/NAME.json]

Batches of a student's episodes are rolled by one process, by a Ray of one process and by a Ray of two, in turns; their
records have to be the same. What a unit costs is CPU time, which other programs on the machine do not change much; the
times of the three do change, so measure on a quiet machine.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onestride.checkpoint import load_config
from onestride.evaluation.entries import Entry
from onestride.evaluation.metrics import single, summarize
from onestride.evaluation.records import Record
from onestride.evaluation.rollouts import Batch, Stage, rolled
from onestride.evaluation.units import rolled_on, said_of
from onestride.evaluation.variant import Variant
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Row, Table
from onestride.runs.pairs import BLOCK, PairsConfig
from onestride.runs.pairs_stage import pairs_stage
from onestride.runs.run import TEACHER, task_of, trained_methods
from onestride.scale.cluster import Cluster
from onestride.scale.place import working_on
from onestride.scale.units import Unit

COLUMNS = (
    Column("wall_s", "time", "s", 1, spread=False), Column("speed_up", "x one process of Ray", spread=False),
    Column("units", "units", digits=0), Column("cpu_s", "CPU time of a unit", "s", 3, spread=False),
)  # fmt: skip
NODES = (10, 100, 1000)
CORES = 16  # of a machine in the forecast
STATES, EMPTY = 8, 200  # states kept of a batch; units of nothing
FORECAST = (
    Column("units", "units", digits=0), Column("one", "one core", "h", 2),
    *(Column(f"on_{n}", f"{n} machines", "min", 1) for n in NODES), Column("stops", "what stops it"),
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """A piece of work of a paper's size. unit: the row that says what one costs; per: the setting with its size."""

    name: str
    unit: str
    amount: int
    per: str = ""


#: The sizes of the DNK paper's Table I for one body: 12 rows of 5 seeds and 500 episodes, 500 000 pairs, 5 seeds of
#: each of 6 students.
LOADS = (
    Load("evaluation: 12 rows, 5 seeds, 500 episodes", "a batch of episodes", 12 * 5 * 500, "width"),
    Load("500 000 pairs, a block to a shard", "a block of pairs", math.ceil(500_000 / BLOCK)),
    Load("trainings: 6 students, 5 seeds", "a training", 6 * 5),
)


def measure(run: Path, student: str = "dnk", batches: int = 12, width: int = 10, rounds: int = 2) -> dict[str, Any]:
    """Return the record of so many batches of ``width`` episodes, rolled in every round by each in turns.

    Raises:
        ValueError: the run holds no such student, or its task has no benchmark.
        ArithmeticError: records are not the same everywhere.
    """
    task = task_of(run)
    folders = [name for name, (row, _) in sorted(trained_methods(run).items()) if row == student]
    if not folders or task.benchmark is None:
        raise ValueError(f"{run} holds no student '{student}' of a benchmark's task; name one by --student")
    entry = Entry(Variant(method=student, selector="none"), run / folders[0])
    stage = Stage(run, task.name, task.benchmark.environment, width, "cpu", "32-true")
    work = [Batch(entry, n * width, width) for n in range(batches)]
    torch.set_num_threads(1)  # as a cluster's processes have
    walls: dict[str, list[float]] = {}
    cpu_s: dict[str, list[float]] = {}
    wanted: dict[int, list[Record]] = {}
    scratch = run / ".scale"
    with track("rounds", rounds) as bar:
        for number in range(rounds):
            began = time.perf_counter()
            for batch, episodes in rolled(stage, work, 1):
                wanted[batch.first] = said_of(task, episodes, STATES)[0]
            walls.setdefault("one process", []).append(time.perf_counter() - began)
            for count in (1, 2):
                _on_ray(count, stage, work, scratch, wanted, walls, cpu_s)
            bar.update(number + 1)
    shutil.rmtree(scratch, ignore_errors=True)
    rows: dict[str, Any] = {name: {"wall_s": over_rounds(found)} for name, found in walls.items()}
    for name in ("one process", "Ray, 1 process", "Ray, 2 processes"):
        ratios = [one / mine for one, mine in zip(walls["Ray, 1 process"], walls[name], strict=True)]
        rows[name] |= {"speed_up": over_rounds(ratios), "units": single(batches)}
    rows |= {name: {"cpu_s": over_rounds(found), "units": single(len(found))} for name, found in cpu_s.items()}
    seconds = [load_config(run / name)["training"]["seconds"] for name in trained_methods(run) if name != TEACHER]
    rows["a training"] = {"cpu_s": over_rounds(seconds), "units": single(len(seconds))}
    return {
        "config": {"student": student, "batches": batches, "width": width, "rounds": rounds, "cores": CORES},
        "seeds": {},
        "rows": rows,
        "notes": [
            f"batches of {width} episodes of {student} ({task.name}), in turns; every record the same in all three",
            "CPU time, in a process with one thread; of a training the seconds that its checkpoint says, with the "
            "threads that it had; of handing out that of the process that hands out",
        ],
    }


def _on_ray(
    count: int, stage: Stage, work: Sequence[Batch], scratch: Path, wanted: dict[int, list[Record]],
    walls: dict[str, list[float]], cpu_s: dict[str, list[float]],
) -> None:  # fmt: skip
    """Roll all batches on a Ray of so many processes, warm, and take down what they and other units cost."""
    began = time.perf_counter()
    with working_on("ray", scratch.parent, count) as cluster:
        assert cluster is not None
        walls.setdefault("to connect", []).append(time.perf_counter() - began)
        for name, few in (("first", work[: 2 * count]), ("all", work)):
            began, cluster.cpu_s = time.perf_counter(), {}
            for batch, found, _ in rolled_on(cluster, stage, few, scratch / name, {"states": STATES}):
                if found != wanted[batch.first]:
                    raise ArithmeticError(
                        f"episodes from {batch.first} on differ on Ray: {found}, {wanted[batch.first]}"
                    )
        walls.setdefault(f"Ray, {count} process{'es' * (count > 1)}", []).append(time.perf_counter() - began)
        cpu_s.setdefault("a batch of episodes", []).extend(cluster.cpu_s.values())
        if count == 1:
            cpu_s.setdefault("a block of pairs", []).extend(_pairs(cluster, stage.run))
            began = time.process_time()
            list(cluster.run([Unit(f"{n}", "onestride.scale.units:nothing", {}) for n in range(EMPTY)], scratch / "no"))
            cpu_s.setdefault("handing out a unit", []).append((time.process_time() - began) / EMPTY)
        shutil.rmtree(scratch, ignore_errors=True)


def _pairs(cluster: Cluster, run: Path) -> list[float]:
    """Return what blocks of pairs cost; the first of a process loads the data and is left out."""
    cluster.cpu_s = {}
    folder = pairs_stage(run, PairsConfig(count=3 * BLOCK, shards=3), name=".scale-pairs")
    shutil.rmtree(folder)
    return sorted(cluster.cpu_s.values())[:2]


def over_rounds(values: Sequence[float]) -> dict[str, Any]:
    """Return a metric of values that were measured one after another."""
    return summarize(values, [0] * len(values))


# ---------------------------------------------------------------- tables


def table(record: dict[str, Any]) -> Table:
    """Return a line per row of what was measured."""
    return Table(COLUMNS, record["rows"], tuple(record["notes"]))


def forecast(record: dict[str, Any]) -> Table:
    """Return what 10, 100 and 1000 machines would take for work of a paper's size, from what units cost."""
    rows, cores = record["rows"], record["config"]["cores"]
    starts, handing = rows["to connect"]["wall_s"]["mean"], rows["handing out a unit"]["cpu_s"]["mean"]
    made: dict[str, Row] = {}
    for load in LOADS:
        cost, units = rows[load.unit]["cpu_s"]["mean"], math.ceil(load.amount / record["config"].get(load.per, 1))
        times = {n: parts(units, cost, n * cores, starts, handing) for n in NODES}
        last = times[NODES[-1]]
        made[load.name] = {
            "units": single(units),
            "one": single(units * cost / 3600),
            **{f"on_{n}": single(sum(each.values()) / 60) for n, each in times.items()},
            "stops": {"text": max(last, key=last.__getitem__)},
        }
    caption = (
        f"Machines of {cores} cores, a unit to a core. A time is that of starting, of handing every unit out, and of "
        "as many units one after another as the busiest core has. What stops it is the largest of these on "
        f"{NODES[-1]} machines. It is a forecast from units on one machine: no cluster of this size was used.",
    )
    return Table(FORECAST, made, caption)


def parts(units: int, cost: float, processes: int, starts: float, handing: float) -> dict[str, float]:
    """Return the parts of the time that units take on so many processes [s], by what a reader calls them."""
    one_after_another = math.ceil(units / processes)
    last = "the length of one unit" if one_after_another == 1 else "units one after another"
    return {"starting": starts, "handing out": units * handing, last: one_after_another * cost}


def tables(results: Path) -> dict[str, Table]:
    """Return the tables of every committed record."""
    found = records(results / "scale")
    measured = {f"scale-{name}": table(record) for name, record in found.items()}
    return measured | {f"scale-{name}-machines": forecast(record) for name, record in found.items()}
