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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.checkpoint import load_config, save_tensors
from onestride.control.clock import RealClock
from onestride.control.ladder import Patience
from onestride.control.loop import EpisodeLog, commands_of, run_episode
from onestride.control.policy import Policy
from onestride.control.realtime import punctual, to_back
from onestride.control.ring import Ring
from onestride.control.stall import Stall, Stalled
from onestride.control.worker import Worker
from onestride.engine.backends import Backend
from onestride.engine.engine import Engine
from onestride.engine.folder import CONTRACT, load_contract
from onestride.evaluation.metrics import latency
from onestride.evaluation.result import result
from onestride.files import write_json
from onestride.progress import track
from onestride.run_folder import without_history
from onestride.tasks import TASKS
from onestride.tasks.task import Task

WARM_UP = 50  # decisions thrown away before the first that counts
SCENES = 50  # then they begin again
WATCH_EVERY = 0.5  # how often memory is looked at and the bar moves [s]
EDGE = 0.05  # memory at the beginning and at the end: the median of so much of the samples


@dataclass(frozen=True)
class EnduranceConfig:
    """duration [s] of control, rate [Hz] of decisions, timeout [s] of one scene."""

    duration: float
    rate: float
    timeout: float = 60.0
    first_scene: int = 0
    patience: Patience = field(default_factory=Patience)
    stall: Stall | None = None
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
        if engine not in (None, "auto") and engine.split("-")[0] != (form := contract["format"]):
            raise ValueError(f"{folder} was exported for {form}, which runs it; leave --engine {engine} away")
        return Loaded(made, TASKS[contract["task"]](), contract | {"engine": made.chosen})
    policy = Policy.from_pretrained(folder, device=device)
    about = without_history(load_config(folder))
    if engine is None:
        return Loaded(policy, policy.task, about)
    made = Engine.from_policy(policy, engine, plan=True)  # the ladder follows plans
    return Loaded(made, policy.task, about | {"engine": made.chosen})


class Record:
    """A whole run's numbers; times [s] are since it began. Memory for the ticks' is taken before the first."""

    def __init__(self, config: EnduranceConfig) -> None:
        room = config.ticks + 1000
        self.decided, self.started, self.sent = Ring(room, 2), Ring(room, 2), Ring(room, 2)  # as in EpisodeLog
        self.memory = Ring(math.ceil(2 * config.duration / WATCH_EVERY) + 100, 2)  # when, resident [MB]
        self.began = time.perf_counter()
        self.ticks = self.executed = self.filled = self.overruns = self.starved = self.dropped = self.replaced = 0
        self.late: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wall_s = 0.0
        self.granted: dict[str, str] = {}
        self.stolen_s: float | None = None
        self.stalls: list[float] = []

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


def endure(loaded: Loaded, scenes: Sequence[Any], config: EnduranceConfig) -> Record:
    """Drive scene after scene for ``config.duration`` of control, on wall time.

    Raises:
        ValueError: the task has no simulated robot, or in none of the scenes it can begin.
    """
    task, clock = loaded.task, RealClock()
    if not scenes or task.environment(scenes[0], clock) is None:
        raise ValueError(f"task '{task.name}' has no simulated robot to run on")
    stalled = Stalled(loaded.decider, config.stall) if config.stall is not None else None
    with punctual(config.realtime) as granted, Worker(stalled or loaded.decider, clock) as worker:
        first = task.first_observation(scenes[config.first_scene % len(scenes)])
        commands_of(task, worker.warm_up(first, WARM_UP))  # what the ladder computes is warm too
        record = Record(config)
        record.granted, stolen_before = granted, stolen_s()
        with track(f"{config.rate:g} Hz", math.ceil(config.duration), per_second=1 / WATCH_EVERY) as bar:
            with _Watch(record, bar, config.duration), stalled or nullcontext():
                number, empty = config.first_scene, 0
                while (left := config.ticks - record.ticks) > 0:
                    robot = task.environment(scenes[number % len(scenes)], clock)
                    if config.realtime:
                        gc.collect()  # while nothing moves: it is off when something does
                    log = run_episode(
                        robot, clock, worker, task,
                        timeout=min(config.timeout, (left - 0.01) / config.rate),  # ends at the next tick's due time
                        period=1 / config.rate, patience=config.patience,
                    )  # fmt: skip
                    record.add(log)
                    del robot  # before the next is made: two at once would be the run's largest memory
                    number, empty = number + 1, 0 if log.started.count else empty + 1
                    if empty >= len(scenes):
                        raise ValueError(f"no scene of task '{task.name}' can begin; the last one ended: {log.outcome}")
            record.wall_s = clock.now() - record.began
            if stolen_before is not None and (stolen := stolen_s()) is not None:
                record.stolen_s = stolen - stolen_before
            bar.update(math.ceil(config.duration))
    if stalled is not None:
        record.stalls = [moment - record.began for moment in stalled.moments]
    return record


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


# ---------------------------------------------------------------- what it comes to


def summary(record: Record, config: EnduranceConfig) -> dict[str, Any]:
    """One row of results: metric -> {"mean", "std", "n", "per_seed"}; each is one number of the whole run."""
    lateness, took, age = (1e3 * ring.rows[:, 1] for ring in (record.started, record.decided, record.sent))
    times = latency(record.decided.rows[:, 1])
    start, end, growth = memory_growth(record.memory.rows[:, 1])
    p99 = times["decision_ms_p99"]
    values: dict[str, float | None] = {
        "control_s": record.ticks / config.rate,
        "ticks": record.ticks,
        "decisions": len(took),
        "executed_steps": record.executed,
        "control_hz": config.rate * record.executed / max(record.ticks, 1),
        "overruns": record.overruns,
        "overrun_ratio": record.overruns / max(record.ticks, 1),
        "starved_ticks": record.starved,
        "starved_ratio": record.starved / max(record.ticks, 1),
        "dropped_decisions": record.dropped,
        "replaced_decisions": record.replaced,
        **{f"late_{rung}": record.late[rung] for rung in ("plan", "hold", "standing", "stop")},
        "held_commands": sum(record.held.values()),
        **{f"held: {reason}": count for reason, count in sorted(record.held.items())},
        **times,
        "headroom_p99": None if p99 is None else 1 - 1e-3 * p99 * config.rate,
        **_percentiles("jitter_ms", np.abs(lateness)),
        **_percentiles("observation_age_ms", age),
        "rss_mb_start": start,
        "rss_mb_end": end,
        "rss_mb_max": float(np.nanmax(record.memory.rows[:, 1])) if start is not None else None,
        "rss_growth_percent": growth,
        "stolen_ms": None if record.stolen_s is None else 1e3 * record.stolen_s,
        "stalls": len(record.stalls),
        "scenes": sum(record.outcomes.values()),
    }
    return {name: {"mean": value, "std": None, "n": 1, "per_seed": []} for name, value in values.items()}


def memory_growth(mb: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Samples (n,) -> at the beginning, at the end [MB] (medians), and how much more that is [%]. Too few: None."""
    known = mb[np.isfinite(mb)]
    edge = max(3, round(EDGE * len(known)))
    if len(known) < 2 * edge:
        return None, None, None
    start, end = float(np.median(known[:edge])), float(np.median(known[-edge:]))
    return start, end, 100 * (end / start - 1)


def _percentiles(name: str, values: np.ndarray) -> dict[str, float | None]:
    names = ("p50", "p99", "max")
    if len(values) == 0:
        return {f"{name}_{each}": None for each in names}
    found = (*np.percentile(values, (50, 99)), values.max())
    return {f"{name}_{each}": float(value) for each, value in zip(names, found, strict=True)}


def targets(out: Path) -> tuple[Path, Path, Path]:
    """Results, plot and ticks that belong to ``out``, checked before any work.

    Raises:
        FileExistsError: one of them is there already.
    """
    files = out.with_suffix(".json"), out.with_suffix(".png"), out.with_suffix(".safetensors")
    there = [path.name for path in files if path.exists()]
    if there:
        raise FileExistsError(
            f"{out.parent} holds {', '.join(there)} already; give another --out, or remove them first"
        )
    return files


def write(out: Path, record: Record, loaded: Loaded, config: EnduranceConfig, row: str, command: str) -> dict[str, Any]:
    """Write results, plot and every tick's times; returns the results."""
    from onestride.evaluation.endurance_figure import endurance_figure
    from onestride.evaluation.figures import save

    results, plot, ticks = targets(out)
    report = result(
        f"realtime-{loaded.task.name}",
        command,
        config={"run": asdict(config), "granted": record.granted, row: loaded.about},
        seeds={"scenes": 0},
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - (time.perf_counter() - record.began))),
        wall_s=record.wall_s,
        rows={row: summary(record, config)},
        notes=_notes(record, loaded.task, config),
    )
    write_json(results, report)
    named = {"decided": record.decided, "started": record.started, "sent": record.sent, "memory": record.memory}
    tensors = {name: torch.from_numpy(ring.rows.copy()).float() for name, ring in named.items()}
    save_tensors(ticks, tensors | {"stalls": torch.tensor(record.stalls)})
    save(endurance_figure(record, config, f"{loaded.task.name}, {row}"), plot)
    return report


#: What of a report is shown beside others: heading, metric, format.
SHOWN = (
    ("ticks", "ticks", "{:.0f}"), ("overruns", "overruns", "{:.0f}"), ("starved", "starved_ticks", "{:.0f}"),
    ("late: plan", "late_plan", "{:.0f}"), ("hold", "late_hold", "{:.0f}"), ("stop", "late_stop", "{:.0f}"),
    ("dropped", "dropped_decisions", "{:.0f}"), ("decision p50 [ms]", "decision_ms_p50", "{:.2f}"),
    ("p99", "decision_ms_p99", "{:.2f}"), ("max", "decision_ms_max", "{:.1f}"),
    ("jitter p50 [ms]", "jitter_ms_p50", "{:.3f}"), ("p99", "jitter_ms_p99", "{:.3f}"),
    ("max", "jitter_ms_max", "{:.1f}"), ("stolen [ms]", "stolen_ms", "{:.0f}"),
    ("memory growth [%]", "rss_growth_percent", "{:+.2f}"),
)  # fmt: skip


def cells(reports: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """Reports by name -> a header, then a line for each."""
    made = [["", "engine", *(heading for heading, _, _ in SHOWN)]]
    for name, report in reports.items():
        ((measured, row),) = report["rows"].items()
        engine = report["config"].get(measured, {}).get("engine", "").split(":")[0]
        values = (row.get(metric, {}).get("mean") for _, metric, _ in SHOWN)  # earlier reports have fewer
        shown = zip(SHOWN, values, strict=True)
        made.append([name, engine, *("" if value is None else form.format(value) for (_, _, form), value in shown)])
    return made


def _notes(record: Record, task: Task, config: EnduranceConfig) -> list[str]:
    ended = ", ".join(f"{count} {outcome}" for outcome, count in record.outcomes.most_common())
    stall = config.stall
    return [
        f"Wall time. Decisions at {config.rate:g} Hz; the simulated robot keeps its own time, and rows of a plan stay "
        f"{1e3 * task.control_dt:g} ms apart. Scenes ended: {ended}. Resets between scenes are not control time.",
        "overruns: ticks without their decision by the time the next one was due. starved_ticks: nothing was sent. "
        "late_*: what the late-command ladder did instead. dropped_decisions: their observation had expired when they "
        "came; replaced_decisions: a newer one overtook them. control_hz: decisions sent in their own tick, per second "
        "of control.",
        "jitter: how far from its due time a tick began. observation_age: of what was sent, when it was sent. rss: "
        "medians of the first and last twentieth of the samples, after warm-up. stolen: what a virtual machine's host "
        "took from all its cores meanwhile.",
        f"Stalls: {stall.kind} of {stall.length:g} s every {stall.every:g} s, at {_moments(record.stalls)} s."
        if stall is not None
        else "No stalls were injected.",
    ]


def _moments(stalls: Sequence[float], most: int = 10) -> str:
    shown = ", ".join(f"{moment:.2f}" for moment in stalls[:most])
    return f"{shown}, …" if len(stalls) > most else shown or "no time"
