"""What it costs and gains when torch's threads sleep where they wait: training alone, and beside busy processes.

python benchmarks/waiting.py [--preset halfcheetah-small] [--rounds 9] [--out results/training/NAME.json]

Rows: "as it comes" is the library's own way (it waits awake for some milliseconds), "passive" what the program sets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro
from speed import trained_per_second

from onestride.commands.base import mendable, typed
from onestride.cores import WAITING
from onestride.evaluation.metrics import single
from onestride.evaluation.result import Experiment
from onestride.progress import track

WAYS: dict[str, dict[str, str]] = {"as it comes": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


@dataclass(frozen=True)
class Arguments:
    """What to train, and beside how many busy processes."""

    preset: str = "halfcheetah-small"
    kinds: tuple[str, ...] = ("teacher", "student")
    busy: tuple[int, ...] = (0, 2, 8)
    rounds: int = 9
    steps: int = 20
    out: Path | None = None


def main(arguments: Arguments) -> None:
    experiment = Experiment("waiting", typed("benchmarks/waiting.py"), arguments.out)
    cases = [(kind, busy) for busy in arguments.busy for kind in arguments.kinds]
    speeds: dict[str, list[float]] = {}
    with track("timing", arguments.rounds * len(cases)) as bar:
        for number in range(arguments.rounds):
            for kind, busy in cases:
                ways = list(WAYS)[:: 1 if number % 2 else -1]  # each is as often the first of its round
                for way in ways:
                    with beside(busy):
                        speed = trained(arguments, kind, WAYS[way])
                    speeds.setdefault(f"{kind}, {busy} busy, {way}", []).append(speed)
            bar.update((number + 1) * len(cases))
    rows = {name: {"windows_per_s": single(float(np.median(values)))} for name, values in speeds.items()}
    for kind, busy in cases:
        of = {way: np.array(speeds[f"{kind}, {busy} busy, {way}"]) for way in WAYS}
        gain = float(np.median(of["passive"] / of["as it comes"])) - 1
        rows[f"{kind}, {busy} busy, passive"]["gain"] = single(gain)
    for name, row in rows.items():
        gain = f"  {100 * row['gain']['mean']:+.1f} %" if "gain" in row else ""
        print(f"{name:30s} {row['windows_per_s']['mean']:8.0f} windows/s{gain}")
    experiment.record(
        config={"preset": arguments.preset, "rounds": arguments.rounds, "steps": arguments.steps},
        seeds={},
        rows=rows,
        notes=["medians over rounds; gain: the median of each round's own ratio, less one, so that a drifting machine "
               "slows both"],
    )  # fmt: skip


def trained(arguments: Arguments, kind: str, way: Mapping[str, str]) -> float:
    """Windows per second in a process of its own, whose threads wait so."""
    before = dict(os.environ)
    for name in WAITING:
        os.environ.pop(name, None)
    os.environ.update(way)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(trained_per_second, arguments.preset, kind, True, arguments.steps).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def beside(count: int) -> Iterator[None]:
    """While so many processes compute without a pause."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
