"""What is earned when candidates are drawn otherwise for a run's critic, on starts outside every evaluation.

python -m onestride.studies candidate_sampling --run RUN [--student dnk] [--out results/sampling/NAME.json]

Rows: as the run's critic has it ("own"), and with the margin for all but the lowest temperature ("lowest"). To choose
by, before an evaluation; engines decide, one process per core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onestride.cores import usable_cores
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.evaluation.metrics import over_seeds, single
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.policy.policy import Policy
from onestride.processes import run_jobs
from onestride.progress import track
from onestride.reports.captions import DEVIATION
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.runs.run import CRITIC, rows_of, task_of
from onestride.selectors.iql import CriticSelector
from onestride.selectors.sampling import Sampling
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


def measure(run: Path, student: str = "dnk", episodes: int = 70) -> dict[str, Any]:
    """Return the record of every way: of a student of the run, so many episodes of every training seed."""
    found = sorted(rows_of(run).items(), key=lambda item: item[1])  # by row and seed
    names = [name for name, (row, _) in found if row == student]
    if not names:
        raise ValueError(f"{run} holds no student '{student}'")
    own = critic_of(run).sampling
    if own is None:
        raise ValueError(f"{run / CRITIC} ranks candidates as they are drawn in training; see onestride critic --help")
    drawn = {"own": own, "lowest": replace(own, cool=min(own.temperatures))}
    jobs = [(name, way) for way in WAYS for name in names]
    returns: dict[tuple[str, str], list[float]] = {}
    with track("trials", len(jobs)) as bar:
        for job, made in run_jobs(partial(deciding, run, drawn, episodes), jobs, min(usable_cores(), len(jobs))):
            returns[job] = made
            bar.update(len(returns), f"{job[1]} {job[0]}: {np.mean(made):.3f}")
    return {
        "config": {"student": student, "episodes": episodes} | {way: vars(drawn[way]) for way in WAYS},
        "seeds": {"episodes": STARTS, "training": [int(name.rpartition("-")[2]) for name in names]},
        "rows": {way: summary([returns[name, way] for name in names]) for way in WAYS},
        "notes": [f"{episodes} episodes of every training seed, decided by an engine; below {POOR}: poor"],
    }


def critic_of(run: Path) -> CriticSelector:
    """Return the run's critic as a selector."""
    selector = load_selector(run / CRITIC, task_of(run))
    assert isinstance(selector, CriticSelector)
    return selector


@contextmanager
def deciding(run: Path, drawn: Mapping[str, Sampling], episodes: int) -> Iterator[Callable[[tuple[str, str]], Any]]:
    """Give what plays a student's episodes with its candidates drawn one way, and returns their normalised returns."""
    task, selector = task_of(run), critic_of(run)
    assert task.benchmark is not None
    normalised, lockstep = task.benchmark.normalised, Lockstep(task.benchmark.environment, 1)

    def earned(job: tuple[str, str]) -> list[float]:
        name, selector.sampling = job[0], drawn[job[1]]
        policy = Policy.from_pretrained(run / name, selector=selector)
        engine = Engine.from_policy(policy, preferred(policy), threads=1, draws=DRAWS)
        found = []
        for number in range(episodes):
            engine.reset(7 * number)
            (episode,) = lockstep.roll([STARTS + number], lambda observations, _: engine.act(observations))
            found.append(normalised(float(episode.rewards.astype(np.float64).sum())))
        return found

    yield earned
    lockstep.close()


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
