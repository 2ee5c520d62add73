"""What is earned when candidates are drawn otherwise for a run's critic, on starts outside every evaluation.

python -m onestride.studies.candidate_sampling --run RUN [--student dnk] [--out results/sampling/NAME.json]

Rows: as the run's critic has it ("own"), and with the margin for all but the lowest temperature ("lowest"). To choose
by, before an evaluation; engines decide, one process per core.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from onestride.cores import usable_cores
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.errors import command_line, report_user_errors
from onestride.evaluation.metrics import over_seeds, single
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.policy.policy import Policy
from onestride.progress import console, track
from onestride.reports.captions import DEVIATION
from onestride.reports.documents import records
from onestride.reports.table import Column, Table, terminal
from onestride.runs.run import CRITIC, task_of, trained_methods
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.iql import CriticSelector
from onestride.selectors.store import load_selector
from onestride.tasks.lockstep import Lockstep

POOR = 0.9  # normalised return of an episode
STARTS = FIRST_SEED - 27_000
DRAWS = 256
#: Ways to draw candidates, and what a reader calls them.
WAYS = {"own": "as the critic has it", "lowest": "a margin for all but the lowest λ"}
COLUMNS = (
    Column("return_normalised", "return", digits=4),
    Column("median", "median episode", digits=4),
    Column("poor", f"episodes below {POOR}", digits=0),
    Column("episodes", "of", digits=0),
)


def main(run: Path, student: str = "dnk", episodes: int = 70, out: Path | None = None) -> None:
    """Measure every way in turns, print the table and write the record.

    Args:
        run: With a critic that has temperatures of its own.
        student: Which of its students.
        episodes: Of every training seed.
        out: Where the record goes; nothing is overwritten.
    """
    experiment = Experiment(task_of(run).name, command_line("onestride.studies.candidate_sampling"), out)
    found = sorted(trained_methods(run).items(), key=lambda item: item[1])  # by row and seed
    names = [name for name, (row, _) in found if row == student]
    if not names:
        raise ValueError(f"{run} holds no student '{student}'")
    drawn = {way: sampling_of(run, way) for way in WAYS}
    returns: dict[tuple[str, str], list[float]] = {}
    pool = ProcessPoolExecutor(usable_cores(), get_context("spawn"))
    with pool, track("trials", len(names) * len(WAYS)) as bar:
        jobs = {pool.submit(earned, run, name, drawn[way], episodes): (way, name) for name in names for way in WAYS}
        for number, done in enumerate(as_completed(jobs)):
            way, name = jobs[done]
            returns[way, name] = done.result()
            bar.update(number + 1, f"{way} {name}: {np.mean(returns[way, name]):.3f}")
    experiment.record(
        config={"student": student, "episodes": episodes} | {way: vars(drawn[way]) for way in WAYS},
        seeds={"episodes": STARTS, "training": [int(name.rpartition("-")[2]) for name in names]},
        rows={way: summary([returns[way, name] for name in names]) for way in WAYS},
        notes=[f"{episodes} episodes of every training seed, decided by an engine; below {POOR}: poor"],
        show=lambda record: console.print(terminal(table(record), f"{record['experiment']}: means over seeds")),
    )


def sampling_of(run: Path, way: str) -> CandidateSampling:
    """Return how candidates are drawn for the run's critic, that way."""
    sampling = critic_of(run).options.sampling
    if sampling is None:
        raise ValueError(
            f"{run / CRITIC} ranks candidates as they are drawn in training; see onestride train iql --help"
        )
    return sampling if way == "own" else replace(sampling, penalty_free_below=min(sampling.temperatures))


def critic_of(run: Path) -> CriticSelector:
    """Return the run's critic as a selector."""
    selector = load_selector(run / CRITIC, task_of(run))
    assert isinstance(selector, CriticSelector)
    return selector


def earned(run: Path, name: str, sampling: CandidateSampling, episodes: int) -> list[float]:
    """Return the normalised returns of one student, in a process of its own."""
    torch.set_num_threads(1)
    task, selector = task_of(run), critic_of(run)
    assert task.benchmark is not None
    selector.options = replace(selector.options, **vars(sampling))
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


def summary(per_seed: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a row's metrics of the normalised returns of every training seed's episodes."""
    every = np.concatenate([np.asarray(returns) for returns in per_seed])
    return {
        "return_normalised": over_seeds([float(np.mean(returns)) for returns in per_seed]),
        "median": over_seeds([float(np.median(returns)) for returns in per_seed]),
        "poor": single(int((every < POOR).sum())),
        "episodes": single(len(every)),
    }


def table(record: dict[str, Any]) -> Table:
    """Return a line per way."""
    seeds, episodes = len(record["seeds"]["training"]), record["config"]["episodes"]
    said = f"{DEVIATION} over {seeds} training seeds, {episodes} episodes of each."
    return Table(COLUMNS, {WAYS[way]: row for way, row in record["rows"].items()}, (said,))


def tables(results: Path) -> dict[str, Table]:
    """Return a table for every committed dataset."""
    return {f"sampling-{name}": table(record) for name, record in records(results / "sampling").items()}


if __name__ == "__main__":
    with report_user_errors():
        tyro.cli(main, description=__doc__)
