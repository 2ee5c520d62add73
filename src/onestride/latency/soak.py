"""A soak test: the control loop over minutes of wall time. Is every tick there, on time, and does memory stay level?

Scenes follow one another until the time is up. Resets between them are no control time and count nowhere.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from onestride.checkpoint import load_config
from onestride.control.async_policy import AsyncPolicy
from onestride.control.episode import commands_of
from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.realtime import leave_realtime, realtime_scheduling
from onestride.control.ring_buffer import RingBuffer
from onestride.control.signals import Signals
from onestride.engine.backends import Backend
from onestride.engine.engine import Engine
from onestride.engine.folder import CONTRACT, load_contract
from onestride.engine.loading import load_decider
from onestride.files import CheckpointError
from onestride.latency.fault_injection import Fault, FaultInjection
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.robot.clock import RealClock
from onestride.robot.decision import Decider
from onestride.runs.run import without_history
from onestride.tasks import TASKS
from onestride.tasks.task import Task

if TYPE_CHECKING:
    from onestride.serving.client import RemotePolicy

WARM_UP = 50  # decisions thrown away before the first that counts
SCENES = 50  # then they begin again
KEPT = 5_000_000  # at most so many ticks' times are kept, the last ones: 14 hours at 100 Hz, and 240 MB
WATCH_EVERY = 0.5  # how often memory is looked at and the bar moves [s]


@dataclass(frozen=True)
class SoakConfig:
    """duration [s] of control, rate [Hz] of decisions, timeout [s] of one scene."""

    duration: float
    rate: float
    fallback_timeouts: FallbackTimeouts
    timeout: float = 60.0
    first_scene: int = 0
    fault: Fault | None = None
    realtime: bool = False

    def __post_init__(self) -> None:
        for name in ("duration", "rate", "timeout"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value:g}, expected a positive number")
        if self.fallback_timeouts.max_observation_age < 1 / self.rate:
            raise ValueError(
                f"max_observation_age is {self.fallback_timeouts.max_observation_age:g} s, shorter than one period at "
                f"{self.rate:g} Hz ({1 / self.rate:g} s): nothing could be sent; allow at least one period"
            )
        if self.first_scene < 0:
            raise ValueError(f"scene is {self.first_scene}, expected 0 or more")

    @property
    def ticks(self) -> int:
        return max(1, round(self.duration * self.rate))


#: What decides.
D = TypeVar("D", bound=Decider, covariant=True)


@dataclass(frozen=True)
class LoadedPolicy(Generic[D]):
    """A policy or an engine, here or on a server, its task, and what the record says about it."""

    decider: D
    task: Task
    about: dict[str, Any]


def load_policy_or_engine(folder: Path, device: str, engine: Backend | None = None) -> LoadedPolicy[Policy | Engine]:
    """Load what a folder holds: a trained policy, with ``engine`` folded and on that backend, or an exported engine.

    Raises:
        CheckpointError: it holds neither, or is of a task that is not known here; see ``Policy.from_pretrained`` and
            ``Engine.from_folder``.
        ValueError: an exported engine is asked to run on another backend or device than its own, or the policy cannot
            be folded.
    """
    decider = load_decider(folder, device, engine)
    if (folder / CONTRACT).is_file():
        about = load_contract(folder)
        if about["task"] not in TASKS:  # it can be simulated only where its package or file is
            raise CheckpointError(f"{folder} is of a task that is not known here: {TASKS.unknown(about['task'])}")
        task = TASKS[about["task"]]()
    else:  # its plans may be shorter than the task's
        about = without_history(load_config(folder))
        task = replace(TASKS[about["task"]](), control=decider.control)
    return LoadedPolicy(decider, task, about | ({"engine": decider.chosen} if isinstance(decider, Engine) else {}))


def connect_to(url: str, api_key: str | None) -> LoadedPolicy[RemotePolicy]:
    """Return what a policy server decides by.

    Raises:
        ConnectionError: there is no server, or it refuses this client.
        ValueError: its task is not known here.
    """
    from onestride.serving.client import RemotePolicy  # needs packages that nothing else here does

    remote = RemotePolicy(url, api_key=api_key)
    if remote.control.name not in TASKS:
        remote.close()
        raise ValueError(f"{url} serves another task: {TASKS.unknown(remote.control.name)}")
    return LoadedPolicy(remote, TASKS[remote.control.name](), {"server": url, "policy": remote.metadata["policy"]})


class Record:
    """The numbers of a whole run, filled as it goes on; times [s] are since it began.

    Memory for the ticks' times is taken before the first. ended_by: the exception that ended the run early, or None.
    """

    def __init__(self, config: SoakConfig) -> None:
        room = min(config.ticks + 1000, KEPT)
        self.decision_times, self.tick_jitter, self.command_age = (
            RingBuffer(room, 2) for _ in range(3)
        )  # as EpisodeLog
        samples = math.ceil(min(2 * config.duration / WATCH_EVERY + 100, KEPT))
        self.memory = RingBuffer(samples, 2)  # when, resident [MB]
        self.began = time.perf_counter()
        self.ticks = self.executed = self.filled = self.overruns = self.starved = self.dropped = self.replaced = 0
        self.late: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wall_s = 0.0
        self.granted: dict[str, str] = {}
        self.stolen_s: float | None = None
        self.stalls: list[float] = []
        self.ended_by: str | None = None

    def begin(self) -> None:
        self.began, self._stolen_before = time.perf_counter(), stolen_s()

    def end(self, stalls: Sequence[float]) -> None:
        """The run is over. stalls: moments of the clock."""
        self.wall_s = time.perf_counter() - self.began
        if self._stolen_before is not None and (stolen := stolen_s()) is not None:
            self.stolen_s = stolen - self._stolen_before
        self.stalls = [moment - self.began for moment in stalls]

    def add(self, log: EpisodeLog) -> None:
        """Add an episode that is over."""
        shift = np.array([log.began - self.began, 0.0])
        for name in ("decision_times", "tick_jitter", "command_age"):
            getattr(self, name).extend(getattr(log, name).rows + shift)
        for name in ("ticks", "executed", "filled", "overruns", "starved", "dropped", "replaced"):
            setattr(self, name, getattr(self, name) + getattr(log, name))
        self.late += log.late
        self.refused += log.refused
        self.outcomes[log.outcome] += 1


def run_soak(
    loaded: LoadedPolicy[Any],
    scenes: Sequence[Any],
    config: SoakConfig,
    record: Record | None = None,
    closing: Signals | None = None,
) -> Record:
    """Drive scene after scene for ``config.duration`` of control, on wall time.

    Args:
        record: filled as the run goes on, so that the caller has it after an exception too.
        closing: holds back signals that come after the one that ended the run, until the caller has written the record
            and calls its ``leave``. Without it the earlier handlers are back when this returns.

    Raises:
        ValueError: the task has no simulated robot, or in none of the scenes it can begin.
    """
    task, clock = loaded.task, RealClock()
    record, signals = record or Record(config), closing or Signals()
    if not scenes or task.environment(scenes[0], clock) is None:
        raise ValueError(f"task '{task.name}' has no simulated robot to run on")
    faulty = FaultInjection(loaded.decider, config.fault) if config.fault is not None else None
    with realtime_scheduling(config.realtime) as granted, AsyncPolicy(faulty or loaded.decider, clock) as worker:
        first = task.first_observation(scenes[config.first_scene % len(scenes)])
        answer = worker.warm_up(first, WARM_UP)
        if answer.decision is not None:  # what the fallback computes is warm too
            commands_of(task.control, answer.decision.plan, answer.observation)
        record.granted = granted
        with track(f"{config.rate:g} Hz", math.ceil(config.duration), per_second=1 / WATCH_EVERY) as bar:
            record.begin()
            try:
                with _watching(record, bar, config.duration), faulty or nullcontext():
                    _drive(worker, clock, task, scenes, config, record, signals)
            except BaseException as error:
                record.ended_by = type(error).__name__
                raise
            finally:
                record.end(faulty.moments if faulty is not None else ())
                if closing is None:
                    signals.leave()
            bar.update(math.ceil(config.duration))
    return record


def _drive(
    worker: AsyncPolicy, clock: RealClock, task: Task, scenes: Sequence[Any], config: SoakConfig, record: Record,
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
                robot, clock, worker, task.control,
                timeout=timeout, period=1 / config.rate, fallback_timeouts=config.fallback_timeouts, log=log,
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
        number, empty = number + 1, 0 if log.tick_jitter.count else empty + 1
        if empty >= len(scenes):
            raise ValueError(f"no scene of task '{task.name}' can begin; the last one ended: {log.outcome}")


@contextmanager
def _watching(record: Record, bar: Any, duration: float) -> Iterator[None]:
    """Sample memory and move the bar in a thread of its own, so that no tick does."""
    over = threading.Event()

    def watch() -> None:
        leave_realtime()
        while not over.wait(WATCH_EVERY):
            passed = time.perf_counter() - record.began
            record.memory.add(passed, resident_mb())
            bar.update(min(int(passed), math.ceil(duration) - 1))

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def resident_mb() -> float:
    """Return this process's resident memory [MB]; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def stolen_s() -> float | None:
    """Return the time a virtual machine's host has taken from its cores since it started [s], if the system says."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
