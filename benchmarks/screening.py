"""Does screening ever change a decision? A run's student in float32 and screened, on states of the run's own data.

python benchmarks/screening.py --run RUN [--student dnk-0] [--decisions 10000] [--out results/screening/NAME.json]

Two rows: states from all over the data, and where its episodes begin, where behaviours part and candidates differ most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from onestride.commands.base import mendable, typed
from onestride.data.minari import read_dataset
from onestride.engine.native import NativeRunner, library
from onestride.engine.program import write_program
from onestride.engine.reduce import reduce
from onestride.evaluation.result import Experiment
from onestride.evaluation.screenings import compare
from onestride.policy.policy import Policy

DRAWS = 256


@dataclass(frozen=True)
class Arguments:
    """A run with data and a student; decisions of each row (episodes' first states are as many as there are)."""

    run: Path
    student: str = "dnk-0"
    decisions: int = 10_000
    threads: int = 1
    out: Path | None = None


def main(arguments: Arguments) -> None:
    experiment = Experiment("screening", typed("benchmarks/screening.py"), arguments.out)
    policy = Policy.from_pretrained(arguments.run / arguments.student)
    reduced = reduce(policy, draws=DRAWS)
    exact = NativeRunner(write_program(reduced, bounds=False), arguments.threads)
    screened = NativeRunner(write_program(reduced, "screened"), arguments.threads, "native-screened")
    episodes = list(read_dataset(arguments.run / "data"))
    states = {
        "": np.concatenate([e.observations[:-1] for e in episodes]),
        ", first states": np.stack([e.observations[0] for e in episodes]),
    }
    body, rows = policy.task.name.split("-")[0], {}
    if library().onestride_levels() < 255:
        body += " by AVX2 alone"  # inputs have half the steps
    for where, seen in states.items():
        which = np.linspace(0, len(seen) - 1, min(arguments.decisions, len(seen))).round().astype(int)
        rows[body + where] = compare(exact, screened, seen[which], DRAWS)
        print(f"{body + where:30s}", "  ".join(f"{k} {v['mean']:.4g}" for k, v in rows[body + where].items()))
    experiment.record(
        config={"run": str(arguments.run), "student": arguments.student, "candidates": policy.candidates},
        seeds={"noise": 0},
        rows=rows,
        notes=["in_float32: candidates of a decision whose score float32 computed, the rest kept that of 8 bits"],
    )


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
