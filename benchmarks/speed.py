"""Speed as ratios within one run: decisions, planner, training, and the machine's own ceiling beside them.

    python benchmarks/speed.py [--preset demo] [--run runs/demo] [--rounds 40] [--out results/bench/speed.json]

Teacher and student decide in turns on the same observations, so that a machine whose speed drifts slows both.
Without a trained run, untrained networks of the preset's sizes are timed: the arithmetic is the same. A benchmark's
preset (halfcheetah-small) also times the teacher of the paper's size, the temporal U-Nets, as ``teacher-unet``.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from onestride import presets
from onestride.checkpoint import versions, write_json
from onestride.control.policy import Policy, make_generator
from onestride.data.normalize import Normalizer
from onestride.diffusion.guidance import GuidedPlanner
from onestride.evaluation.metrics import latency
from onestride.evaluation.result import machine
from onestride.presets import Preset
from onestride.selectors.store import make_selector_model, wrap
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.tasks.task import Task
from onestride.training import TrainConfig, train


@dataclass(frozen=True)
class Arguments:
    """What to time, and where to write it."""

    preset: str = "demo"
    run: Path | None = None
    rounds: int = 40
    out: Path | None = None


def main(arguments: Arguments) -> None:
    preset = presets.load(arguments.preset)
    task = TASKS[preset.task]()
    policies = untrained(preset, task) if arguments.run is None else trained(arguments.run)
    observations = [task.first_observation(s) for s in task.scenes(8, 7)]
    times: dict[str, list[float]] = {name: [] for name in policies}
    ceiling: list[float] = []
    for policy in policies.values():
        policy.warm_up(observations[0], 20)
    for i in range(arguments.rounds):
        for name, policy in policies.items():
            began = time.perf_counter()
            policy.decide(observations[i % len(observations)])
            times[name].append(time.perf_counter() - began)
        ceiling.append(gflops())
    rows: dict[str, Any] = {name: latency(t) for name, t in times.items()}
    gflop = {name: flop(policy, observations[0]) / 1e9 for name, policy in policies.items()}
    for name, row in rows.items():
        row["gflop"] = gflop[name]
        row["share_of_ceiling"] = gflop[name] / (row["decision_ms_p50"] * 1e-3) / float(np.median(ceiling))
        row["speed_up_p50"] = rows["teacher"]["decision_ms_p50"] / row["decision_ms_p50"]
    report = {
        "schema": 1,
        "experiment": "bench",
        "command": "benchmarks/speed.py",
        "config": {name: None if value is None else str(value) for name, value in asdict(arguments).items()},
        "versions": versions(),
        "machine": machine() | {"matmul_gflops_p50": float(np.median(ceiling))},
        "rows": rows,
        "training_windows_per_s": training(preset, task),
        **({"planner_trajectories_per_s": planner()} if task.benchmark is None else {}),
    }
    for name, row in rows.items():
        print(
            f"{name:10s} p50 {row['decision_ms_p50']:8.2f} ms  p95 {row['decision_ms_p95']:8.2f} ms  "
            f"{row['speed_up_p50']:6.1f}x  {100 * row['share_of_ceiling']:5.1f} % of {np.median(ceiling):.0f} GFLOP/s"
        )
    if "planner_trajectories_per_s" in report:
        print(f"planner    {report['planner_trajectories_per_s']:.0f} trajectories/s")
    for name, value in report["training_windows_per_s"].items():
        print(f"training   {name}: {value:.0f} windows/s")
    if arguments.out is not None:
        write_json(arguments.out, report)


def trained(run: Path) -> dict[str, Policy]:
    names = ["teacher", *(p.parent.name for p in sorted(run.glob("*-0/config.json")))]
    return {name: Policy.from_pretrained(run / name) for name in names}


def untrained(preset: Preset, task: Task) -> dict[str, Policy]:
    normalizer = Normalizer.empty(task.transition_dim, task.context_dim)

    def policy(kind: str, config: Any, ranked_by: Any, guidance: float = 0.0) -> Policy:
        generator = make_generator(task, kind, asdict(config))
        if guidance:
            generator = GuidedPlanner(generator, ranked_by.model, guidance)
        return Policy(task, generator, normalizer, selector=ranked_by)

    if preset.selectors is None:
        return {"teacher": policy("teacher", preset.teacher, None), "dnk": policy("student", preset.student, None)}
    large = presets.load(full_size(preset))
    assert large.selectors is not None

    def selector(kind: str, config: Any) -> Any:
        return wrap(make_selector_model(kind, asdict(config), task), normalizer, task)

    small, unets = preset.selectors, large.selectors
    return {
        "teacher": policy("teacher", preset.teacher, selector("returns", small.returns), small.guidance),
        "teacher-unet": policy("teacher", large.teacher, selector("returns", unets.returns), unets.guidance),
        "dnk": policy("student", preset.student, selector("iql", small.critic)),
        "dnk-classifier": policy("student", preset.student, selector("returns", small.returns)),
    }


def full_size(preset: Preset) -> str:
    """The name of the same body's preset at the paper's sizes."""
    return f"{preset.task.split('-')[0]}-full"


def gflops(rows: int = 64, width: int = 512) -> float:
    """What this machine's matrix products reach at a decision's size, now [GFLOP/s]."""
    a, b = torch.randn(rows, width), torch.randn(width, width)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * rows * width * width / best / 1e9


def flop(policy: Policy, observation: np.ndarray) -> int:
    """Operations in one decision, counted as it is made.

    The counter cannot look into a gradient: guidance counts as two passes of the return model per step, one forward
    and one back to the input.
    """
    guided = policy.generator if isinstance(policy.generator, GuidedPlanner) else None
    policy.generator = guided.planner if guided else policy.generator
    with FlopCounterMode(display=False) as counter:
        decision = policy.decide(observation)
    total = counter.get_total_flops()
    if guided:
        policy.generator = guided
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            guided.returns(decision.plans.clone(), 1, None)
        total += 2 * guided.nfe * counter.get_total_flops()
    return total


def planner() -> float:
    demonstrations.chunk(0, 0)
    began = time.perf_counter()
    made = sum(len(demonstrations.chunk(0, i)[0]) for i in range(1, 4))
    return made / (time.perf_counter() - began)


def training(preset: Preset, task: Task, steps: int = 60, rows: int = 8192) -> dict[str, float]:
    """Windows per second of teacher and student at the preset's sizes, data held on the device."""
    plans, context = torch.randn(rows, task.horizon, task.transition_dim), torch.randn(rows, task.context_dim)
    data = {
        "teacher": {"plans": plans, "context": context},
        "student": {"prior": plans, "target": plans.flip(0), "context": context, "weight": torch.ones(rows)},
    }
    config = TrainConfig(steps=steps, batch_size=preset.teacher_training.batch_size, checkpoint_every=1e9)
    speeds = {}
    for kind, settings in (("teacher", preset.teacher), ("student", preset.student)):
        generator = make_generator(task, kind, asdict(settings))
        _, happened = train(generator, data[kind], config, Path("unused"), title=f"timing the {kind}", identity={})
        speeds[kind] = steps * config.batch_size / happened["seconds"]
    return speeds


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
