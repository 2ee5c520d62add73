"""The two ways to roll an episode: in a scene whose clock goes on, or in environments that wait for their planner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.data.episode import Episode
from onestride.engine.engine import Engine
from onestride.evaluation.entries import Entry, policy_of
from onestride.evaluation.metrics import latency
from onestride.policy.policy import Policy, Precision
from onestride.processes import run_jobs
from onestride.robot.clock import ChargedClock, Clock, RealClock
from onestride.runs.run import task_of
from onestride.tasks import TASKS
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.task import Task

FIRST_SEED = 100_000  # of evaluation episodes; data is collected from random 31-bit seeds of other streams
MOST_WORKERS = 8  # that are started unasked: each one holds a torch of its own


@dataclass(frozen=True)
class Batch:
    """Episodes or scenes first ... first + count - 1 of one planner; in lockstep they run side by side."""

    entry: Entry
    first: int
    count: int

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.count)


# ---------------------------------------------------------------- scenes with a clock


def run_trial(
    policy: Policy | Engine, task: Task, scene: Any, number: int, *, timeout: float, real_clock: bool
) -> tuple[dict[str, Any], Any]:
    """Return one trial's record, and the robot after it; the candidates' noise depends on the scene's number alone."""
    clock: Clock = RealClock() if real_clock else ChargedClock()
    robot = task.environment(scene, clock)
    policy.reset(number)
    log = run_episode(robot, clock, policy, task.control, timeout=timeout)
    return _record(log, policy.nfe, task.measure(robot, scene)), robot


def _record(log: EpisodeLog, nfe: int, measured: dict[str, Any]) -> dict[str, Any]:
    if log.success:
        measured["completion"] = 1.0
    decided, ages = max(len(log.decisions), 1), log.command_age.rows[:, 1]
    return {
        "success": float(log.success),
        "outcome": log.outcome,
        "completion_time_s": log.duration if log.success else None,
        "executed_steps": log.executed,
        **latency(log.decisions),
        "end_to_end_ms_p50": 1e3 * float(np.median(ages)) if len(ages) else None,
        **measured,
        "control_hz": log.executed / log.duration if log.duration else None,
        "overrun_ratio": log.overruns / decided,
        "starved_ratio": log.starved / max(log.ticks, 1),
        "held_commands": sum(log.refused.values()),
        "held": dict(log.refused),
        "nfe": nfe,
        "decision_ms": [round(1e3 * d, 4) for d in log.decisions.tolist()],
    }


# ---------------------------------------------------------------- environments in lockstep


@dataclass(frozen=True)
class Stage:
    """Where batches are rolled; the same in every process."""

    run: Path
    task: str
    environment: str
    width: int
    device: str
    precision: Precision


def roll(policy: Policy | Engine, lockstep: Lockstep, seed: int, first: int, count: int) -> list[Episode]:
    """Return episodes first ... first + count - 1: starts depend on the number alone, candidates' noise on seed too.

    So every row meets the same starts, also where the teacher has one seed and students have three.
    """
    policy.reset(1_000_003 * seed + first)
    starts = [FIRST_SEED + first + i for i in range(count)]
    return lockstep.roll(
        starts, lambda observations, _: policy.predict_action_chunk(observations), policy.control.n_obs_steps
    )


def rolled(stage: Stage, batches: Sequence[Batch], workers: int) -> Iterator[tuple[Batch, list[Episode]]]:
    """Return every batch with its episodes: in order by one process, by several as they come.

    Args:
        workers: 0 is one for every thread of torch's on a CPU, up to ``MOST_WORKERS``. Several have one thread each: an
            environment's step is no parallel work, so that two roll more than one with two threads.

    Raises:
        OSError: a process was killed from outside, by a machine short of memory for instance.
    """
    unasked = min(torch.get_num_threads(), MOST_WORKERS) if stage.device == "cpu" else 1
    try:
        yield from run_jobs(partial(roller, stage), batches, min(workers or unasked, len(batches)))
    except BrokenProcessPool as error:
        raise OSError(
            "one of the processes that roll episodes was killed, perhaps for want of memory; what is finished is kept. "
            "Run the same command again, with --evaluate.workers 1 if it happens again"
        ) from error


@contextmanager
def roller(stage: Stage) -> Iterator[Callable[[Batch], list[Episode]]]:
    """What rolls batches in one process, in environments that are used again and again."""
    task_of(stage.run)  # an environment of one's own is registered with its task
    TASKS[stage.task]()

    def roll_batch(batch: Batch) -> list[Episode]:
        policy = policy_of(stage.run, batch.entry, stage.device, stage.precision)
        return roll(policy, lockstep, batch.entry.seed, batch.first, batch.count)

    with closing(Lockstep(stage.environment, stage.width)) as lockstep:
        yield roll_batch
