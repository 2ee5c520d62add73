"""Which behaviour do candidates follow at an episode's first state, where the data holds all of them?

python benchmarks/modes.py --run RUN --behaviours expert.npz medium.npz [--out results/modes/NAME.json]

What no candidate follows there, no selector can choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
import tyro
from torch import Tensor

from onestride.commands.base import mendable, typed
from onestride.data.behaviour import BehaviourPolicy, read_behaviours
from onestride.evaluation.candidates import candidates_at
from onestride.evaluation.modes import WHOLE_NOISE, coverage, summary
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.policy.policy import Policy, unselected
from onestride.progress import track
from onestride.runs.run import CRITIC, rows_of, task_of

STARTS = FIRST_SEED + 50_000  # none of an evaluation's


@dataclass(frozen=True)
class Arguments:
    """A run with planners, the behaviours its data was collected with (the better one first), where to write."""

    run: Path
    behaviours: tuple[Path, ...]
    out: Path | None = None
    starts: int = 256

    def __post_init__(self) -> None:
        if len(self.behaviours) < 2:
            raise ValueError(f"--behaviours names {len(self.behaviours)}; candidates follow one of at least two")


def main(arguments: Arguments) -> None:
    task = task_of(arguments.run)
    experiment = Experiment(task.name, typed("benchmarks/modes.py"), arguments.out)
    behaviours = read_behaviours(arguments.behaviours)
    assert task.benchmark is not None
    first = first_states(task.benchmark.environment, arguments.starts)
    found = sorted(rows_of(arguments.run).items(), key=lambda item: item[1])  # by row and seed
    planners = {name: row for name, row in found if row[0] not in ("ct", "cd")}
    critic = arguments.run / CRITIC if (arguments.run / CRITIC).is_dir() else None
    rows: dict[str, list[dict[str, float]]] = {}
    with track("planners", len(planners)) as bar:
        for number, (name, (row, seed)) in enumerate(planners.items()):
            policy = Policy.from_pretrained(arguments.run / name, selector=unselected)
            rows.setdefault(row, []).append(measure(policy, first, behaviours, seed))
            if critic is not None:
                ranked = Policy.from_pretrained(arguments.run / name, selector=critic)
                if not torch.equal(ranked.temperature, policy.temperature):  # candidates are drawn for it otherwise
                    rows.setdefault(f"{row}-iql", []).append(measure(ranked, first, behaviours, seed))
            if row == "teacher":
                policy.temperature[:] = 1.0
                rows[WHOLE_NOISE] = [measure(policy, first, behaviours, seed)]
            bar.update(number + 1)
    report = experiment.record(
        config={"behaviours": [{"name": b.name, "weights": b.identity} for b in behaviours], "starts": len(first)},
        seeds={"episodes": STARTS, "training": sorted({seed for _, seed in planners.values()})},
        rows={row: summary(measured) for row, measured in rows.items()},
        notes=[
            f"At {len(first)} first states outside the evaluation, 64 candidates each; one follows the behaviour whose "
            "mean action there is nearer to its first action.",
        ],
    )
    for row, metrics in report["rows"].items():
        print(f"{row:22s}", "  ".join(f"{name} {value['mean']:.3f}" for name, value in metrics.items()))


def first_states(environment: str, count: int) -> np.ndarray:
    env = gymnasium.make(environment)
    states = [env.reset(seed=STARTS + i)[0] for i in range(count)]
    env.close()
    return np.stack(states)


def measure(policy: Policy, first: np.ndarray, behaviours: list[BehaviourPolicy], seed: int) -> dict[str, float]:
    """How 64 candidates at each of these observations (B, O) cover the behaviours."""
    plans = candidates_at(policy, torch.from_numpy(first).float(), seed)
    actions = policy.normalizer.unnormalize(plans)[:, :, 0, policy.task.state_dim :]
    limits = (torch.from_numpy(bound).float() for bound in (policy.task.limits.low, policy.task.limits.high))
    modes: Tensor = torch.stack([torch.from_numpy(b.act(first)).float() for b in behaviours])
    return coverage(actions.clamp(*limits), modes, policy.temperature)


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
