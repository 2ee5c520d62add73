"""The control loop over minutes of wall time: is every tick there, on time, and does memory stay where it was?

Scenes follow one another until the time is up. Resets between them are no control time and count nowhere.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onestride.checkpoint import load_config
from onestride.control.clock import RealClock
from onestride.control.episode import commands_of
from onestride.control.ladder import Patience
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.policy import Policy
from onestride.control.realtime import punctual, to_back
from onestride.control.ring import Ring
from onestride.control.signals import Signals
from onestride.control.worker import Worker
from onestride.engine.backends import Backend
from onestride.engine.engine import Engine
from onestride.engine.folder import CONTRACT, backend_of, load_contract
from onestride.evaluation.fault_injection import Fault, FaultInjection
from onestride.progress import track
from onestride.run_folder import without_history
from onestride.tasks import TASKS
from onestride.tasks.task import Task

WARM_UP = 50  # decisions thrown away before the first that counts
SCENES = 50  # then they begin again
KEPT = 5_000_000  # at most so many ticks' times are kept, the last ones: 14 hours at 100 Hz, and 240 MB
WATCH_EVERY = 0.5  # how often memory is looked at and the bar moves [s]


@dataclass(frozen=True)
class EnduranceConfig:
    """duration [s] of control, rate [Hz] of decisions, timeout [s] of one scene."""

    duration: float
    rate: float
    patience: Patience
    timeout: float = 60.0
    first_scene: int = 0
    stall: Fault | None = None
    realtime: bool = False

    def __post_init__(self) -> None:
        for name in ("duration", "rate", "timeout"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value:g}, expected a positive number")
        if self.patience.expiry < 1 / self.rate:
            raise ValueError(
                f"expiry is {self.patience.expiry:g} s, shorter than one period at {self.rate:g} Hz "
                f"({1 / self.rate:g} s): nothing could be sent; allow at least one period"
            )
        if self.first_scene < 0:
            raise ValueError(f"scene is {self.first_scene}, expected 0 or more")

    @property
    def ticks(self) -> int:
        return max(1, round(self.duration * self.rate))


@dataclass(frozen=True)
class Loaded:
    """What decides, the task it is for, and what is written down about it."""

    decider: Policy | Engine
    task: Task
    about: dict[str, Any]


def load_decider(folder: Path, device: str, engine: Backend | None = None) -> Loaded:
    """What a folder holds, ready to decide. The one place that knows what may lie there.

    A trained policy, run as it is or, with ``engine``, reduced and on that backend; or an exported engine.

    Raises:
        CheckpointError: nothing that decides; see ``Policy.from_pretrained`` and ``Engine.from_folder``.
        ValueError: an exported engine on another backend than its own, or a policy that cannot be reduced.
    """
    if (folder / CONTRACT).is_file():
        made, contract = Engine.from_folder(folder), load_contract(folder)
        if engine not in (None, "auto", backend := backend_of(contract)):
            raise ValueError(f"{folder} was exported for {backend}, which runs it; leave --engine {engine} away")
        if device != "cpu":
            raise ValueError(
                f"{folder} was exported for {backend}, which runs on the CPU; leave --device {device} away"
            )
        return Loaded(made, TASKS[contract["task"]](), contract | {"engine": made.chosen})
    policy = Policy.from_pretrained(folder, device=device)
    about = without_history(load_config(folder))
    if engine is None:
        return Loaded(policy, policy.task, about)
    made = Engine.from_policy(policy, engine, plan=True)  # the ladder follows plans
    return Loaded(made, policy.task, about | {"engine": made.chosen})


class Record:
    """A whole run's numbers, filled as it goes on; times [s] are since it began. Memory for the ticks' is taken before
    the first. ended_by: what ended it before its time; None: nothing."""

    def __init__(self, config: EnduranceConfig) -> None:
        room = min(config.ticks + 1000, KEPT)
        self.decided, self.started, self.sent = Ring(room, 2), Ring(room, 2), Ring(room, 2)  # as in EpisodeLog
        self.memory = Ring(math.ceil(min(2 * config.duration / WATCH_EVERY + 100, KEPT)), 2)  # when, resident [MB]
        self.began = time.perf_counter()
        self.ticks = self.executed = self.filled = self.overruns = self.starved = self.dropped = self.replaced = 0
        self.late: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wall_s = 0.0
        self.granted: dict[str, str] = {}
        self.stolen_s: float | None = None
        self.stalls: list[float] = []
        self.ended_by: str | None = None

    def begin(self) -> None:
        self.began, self._stolen_before = time.perf_counter(), stolen_s()

    def end(self, stalls: Sequence[float]) -> None:
        """stalls: moments of the clock."""
        self.wall_s = time.perf_counter() - self.began
        if self._stolen_before is not None and (stolen := stolen_s()) is not None:
            self.stolen_s = stolen - self._stolen_before
        self.stalls = [moment - self.began for moment in stalls]

    def add(self, log: EpisodeLog) -> None:
        """An episode is over."""
        shift = np.array([log.began - self.began, 0.0])
        for mine, theirs in ((self.decided, log.decided), (self.started, log.started), (self.sent, log.sent)):
            mine.extend(theirs.rows + shift)
        for name in ("ticks", "executed", "filled", "overruns", "starved", "dropped", "replaced"):
            setattr(self, name, getattr(self, name) + getattr(log, name))
        self.late += log.late
        self.held += log.held
        self.outcomes[log.outcome] += 1


def endure(
    loaded: Loaded,
    scenes: Sequence[Any],
    config: EnduranceConfig,
    record: Record | None = None,
    closing: Signals | None = None,
) -> Record:
    """Drive scene after scene for ``config.duration`` of control, on wall time.

    record: a new one, filled as the run goes on; whoever gave it has it after an exception too. closing: holds back the
    signals that come after the one that ended the run, until whoever gave it has written the record and leaves it.

    Raises:
        ValueError: the task has no simulated robot, or in none of the scenes it can begin.
    """
    task, clock = loaded.task, RealClock()
    record, closing = record or Record(config), closing or Signals()
    if not scenes or task.environment(scenes[0], clock) is None:
        raise ValueError(f"task '{task.name}' has no simulated robot to run on")
    faulty = FaultInjection(loaded.decider, config.stall) if config.stall is not None else None
    with punctual(config.realtime) as granted, Worker(faulty or loaded.decider, clock) as worker:
        first = task.first_observation(scenes[config.first_scene % len(scenes)])
        answer = worker.warm_up(first, WARM_UP)
        if answer.decision is not None:  # what the ladder computes is warm too
            commands_of(task, answer.decision.plan, answer.observation)
        record.granted = granted
        with track(f"{config.rate:g} Hz", math.ceil(config.duration), per_second=1 / WATCH_EVERY) as bar:
            record.begin()
            try:
                with _Watch(record, bar, config.duration), faulty or nullcontext():
                    _drive(worker, clock, task, scenes, config, record, closing)
            except BaseException as error:
                record.ended_by = type(error).__name__
                raise
            finally:
                record.end(faulty.moments if faulty is not None else ())
            bar.update(math.ceil(config.duration))
    return record


def _drive(
    worker: Worker, clock: RealClock, task: Task, scenes: Sequence[Any], config: EnduranceConfig, record: Record,
    closing: Signals,
) -> None:  # fmt: skip
    number, empty = config.first_scene, 0
    closing.watch()  # between scenes; an episode has handlers of its own
    while (left := config.ticks - record.ticks) > 0:
        robot = task.environment(scenes[number % len(scenes)], clock)
        if config.realtime:
            gc.collect()  # while nothing moves: it is off when something does
        timeout = min(config.timeout, (left - 0.01) / config.rate)  # ends at the next tick's due time
        log = EpisodeLog.lasting(timeout, 1 / config.rate)
        closing.leave()
        try:
            run_episode(
                robot, clock, worker, task,
                timeout=timeout, period=1 / config.rate, patience=config.patience, log=log,
            )  # fmt: skip
        except BaseException:
            closing.watch()
            closing.wait()
            raise
        else:
            closing.watch()
        finally:
            record.add(log)
        del robot  # before the next is made: two at once would be the run's largest memory
        number, empty = number + 1, 0 if log.started.count else empty + 1
        if empty >= len(scenes):
            raise ValueError(f"no scene of task '{task.name}' can begin; the last one ended: {log.outcome}")


class _Watch:
    """Looks at memory and moves the bar, in a thread of its own: the ticks do neither."""

    def __init__(self, record: Record, bar: Any, duration: float) -> None:
        self.record, self.bar, self.duration = record, bar, duration
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        to_back()
        while not self._over.wait(WATCH_EVERY):
            passed = time.perf_counter() - self.record.began
            self.record.memory.add(passed, resident_mb())
            self.bar.update(min(int(passed), math.ceil(self.duration) - 1))


def resident_mb() -> float:
    """Memory of this process that is in RAM [MB]; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def stolen_s() -> float | None:
    """Time that a virtual machine's host has taken from all its cores since it started [s]; None: nobody says."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
