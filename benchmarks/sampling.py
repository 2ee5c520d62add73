"""What is earned when candidates are drawn otherwise for a run's critic, on starts outside every evaluation.

python benchmarks/sampling.py --run RUN [--student dnk] [--out results/sampling/NAME.json]

Rows: as the run's critic has it ("own"), and with the margin for all but the lowest temperature ("lowest"). To choose
by, before an evaluation; engines decide, one process per core.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from onestride.commands.base import mendable, typed
from onestride.cores import usable_cores
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.evaluation.samplings import POOR, summary, table
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.runs.run import CRITIC, rows_of, task_of
from onestride.selectors.iql import CriticSelector
from onestride.selectors.sampling import Sampling
from onestride.selectors.store import load_selector
from onestride.tasks.lockstep import Lockstep

STARTS = FIRST_SEED - 27_000
DRAWS = 256
Row = Literal["own", "lowest"]
ROWS: tuple[Row, ...] = ("own", "lowest")


@dataclass(frozen=True)
class Arguments:
    """A run with a critic that has temperatures of its own; which student; episodes of every training seed."""

    run: Path
    student: str = "dnk"
    episodes: int = 70
    out: Path | None = None


def main(arguments: Arguments) -> None:
    experiment = Experiment(task_of(arguments.run).name, typed("benchmarks/sampling.py"), arguments.out)
    found = sorted(rows_of(arguments.run).items(), key=lambda item: item[1])  # by row and seed
    names = [name for name, (row, _) in found if row == arguments.student]
    if not names:
        raise ValueError(f"{arguments.run} holds no student '{arguments.student}'")
    drawn = {row: sampling_of(arguments.run, row) for row in ROWS}
    returns: dict[str, dict[str, list[float]]] = {row: {} for row in ROWS}
    pool = ProcessPoolExecutor(usable_cores(), get_context("spawn"))
    with pool, track("trials", len(names) * len(ROWS)) as bar:
        jobs = {
            pool.submit(earned, arguments.run, name, row, arguments.episodes): (row, name)
            for name in names
            for row in ROWS
        }
        for number, done in enumerate(as_completed(jobs)):
            row, name = jobs[done]
            returns[row][name] = done.result()
            bar.update(number + 1, f"{row} {name}: {np.mean(returns[row][name]):.3f}")
    report = experiment.record(
        config={"student": arguments.student, "episodes": arguments.episodes}
        | {row: vars(sampling) for row, sampling in drawn.items()},
        seeds={"episodes": STARTS, "training": [int(name.rpartition("-")[2]) for name in names]},
        rows={row: summary([returns[row][name] for name in names]) for row in ROWS},
        notes=[f"{arguments.episodes} episodes of every training seed, decided by an engine; below {POOR}: poor"],
    )
    print(table(report))


def sampling_of(run: Path, row: Row) -> Sampling:
    selector = load_selector(run / CRITIC, task_of(run))
    assert isinstance(selector, CriticSelector)
    if selector.sampling is None:
        raise ValueError(f"{run / CRITIC} ranks candidates as they are drawn in training; see onestride critic --help")
    lowest = min(selector.sampling.temperatures)
    return selector.sampling if row == "own" else replace(selector.sampling, cool=lowest)


def earned(run: Path, name: str, row: Row, episodes: int) -> list[float]:
    """Normalised returns of one student, in a process of its own."""
    torch.set_num_threads(1)
    task = task_of(run)
    assert task.benchmark is not None
    selector = load_selector(run / CRITIC, task)
    assert isinstance(selector, CriticSelector)
    selector.sampling = sampling_of(run, row)
    policy = Policy.from_pretrained(run / name, selector=selector)
    engine = Engine.from_policy(policy, preferred(policy), threads=1, draws=DRAWS)
    lockstep = Lockstep(task.benchmark.environment, 1)
    found = []
    for number in range(episodes):
        engine.reset(7 * number)
        (episode,) = lockstep.roll([STARTS + number], lambda observations, _: engine.act(observations))
        found.append(task.benchmark.normalised(float(episode.rewards.astype(np.float64).sum())))
    lockstep.close()
    return found


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
