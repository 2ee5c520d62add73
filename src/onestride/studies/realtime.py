"""What minutes of ``onestride run --duration`` come to: a record, a plot, every tick's times, and a table of runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.evaluation.metrics import latency
from onestride.evaluation.result import result, utc
from onestride.files import all_or_nothing, ensure_writable
from onestride.latency.soak import LoadedPolicy, Record, SoakConfig
from onestride.reports.documents import records
from onestride.reports.figures_soak import soak_figure
from onestride.reports.style import save
from onestride.reports.table import Column, Table
from onestride.seals import seal
from onestride.tasks.task import Task
from onestride.tensors import save_tensors

COLUMNS = (
    Column("engine", "engine"), Column("rate", "rate", "Hz"), Column("ended", "scenes ended"),
    Column("ticks", "ticks", digits=0), Column("overruns", "overruns", digits=0),
    Column("starved_ticks", "starved", digits=0), Column("late_plan", "late: plan", digits=0),
    Column("late_hold", "hold", digits=0), Column("late_stop", "stop", digits=0),
    Column("dropped_decisions", "dropped", digits=0), Column("decision_ms_p50", "decision p50", "ms"),
    Column("decision_ms_p99", "p99"), Column("decision_ms_max", "max", digits=1),
    Column("jitter_ms_p50", "jitter p50", "ms", 3), Column("jitter_ms_p99", "p99", digits=3),
    Column("jitter_ms_max", "max", digits=1), Column("stolen_ms", "stolen", "ms", 0),
    Column("rss_growth_percent", "memory growth", "%", kind="change"),
)  # fmt: skip
ENDED = "scenes ended: "  # begins a metric: how many scenes ended so
EDGE = 0.05  # memory at the beginning and at the end: the median of so much of the samples


def summary(record: Record, config: SoakConfig) -> dict[str, Any]:
    """One row of results: metric -> {"mean", "std", "n", "per_seed"}; each is one number of the whole run."""
    times = latency(record.decision_times.rows[:, 1])
    start, end, growth = memory_growth(record.memory.rows[:, 1])
    p99 = times["decision_ms_p99"]
    values: dict[str, float | None] = {
        "control_s": record.ticks / config.rate,
        "ticks": record.ticks,
        "decisions": record.decision_times.count,
        "executed_steps": record.executed,
        "control_hz": config.rate * record.executed / max(record.ticks, 1),
        "overruns": record.overruns,
        "overrun_ratio": record.overruns / max(record.ticks, 1),
        "starved_ticks": record.starved,
        "starved_ratio": record.starved / max(record.ticks, 1),
        "dropped_decisions": record.dropped,
        "replaced_decisions": record.replaced,
        **{f"late_{rung}": record.late[rung] for rung in ("plan", "hold", "standing", "stop")},
        "held_commands": sum(record.refused.values()),
        **{f"held: {reason}": count for reason, count in sorted(record.refused.items())},
        **times,
        "headroom_p99": None if p99 is None else 1 - 1e-3 * p99 * config.rate,
        **_times("jitter_ms", np.abs(record.tick_jitter.rows[:, 1])),
        **_times("observation_age_ms", record.command_age.rows[:, 1]),
        "rss_mb_start": start,
        "rss_mb_end": end,
        "rss_mb_max": float(np.nanmax(record.memory.rows[:, 1])) if start is not None else None,
        "rss_growth_percent": growth,
        "stolen_ms": None if record.stolen_s is None else 1e3 * record.stolen_s,
        "stalls": len(record.stalls),
        "scenes": sum(record.outcomes.values()),
        **{f"{ENDED}{outcome}": count for outcome, count in record.outcomes.most_common()},
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


def _times(name: str, seconds: np.ndarray) -> dict[str, float | None]:
    return {metric.replace("decision_ms", name): value for metric, value in latency(seconds).items()}


def targets(out: Path) -> tuple[Path, Path, Path]:
    """Results, plot and ticks that belong to ``out``, checked before any work.

    Raises:
        FileExistsError: one of them is there already.
        OSError: the folder cannot be written.
    """
    files = out.with_suffix(".json"), out.with_suffix(".png"), out.with_suffix(".safetensors")
    there = [path.name for path in files if path.exists()]
    if there:
        raise FileExistsError(
            f"{out.parent} holds {', '.join(there)} already; give another --out, or remove them first"
        )
    ensure_writable(out.parent)
    return files


def write(
    out: Path, record: Record, loaded: LoadedPolicy[Any], config: SoakConfig, row: str, command: str
) -> dict[str, Any]:
    """Write results, plot and every tick's times; returns the results."""
    results, plot, ticks = targets(out)
    report = result(
        f"realtime-{loaded.task.name}",
        command,
        config={"run": _settings(config), "granted": record.granted, row: loaded.about},
        seeds={"scenes": 0},
        started=utc(time.time() - (time.perf_counter() - record.began)),
        wall_s=record.wall_s,
        rows={row: summary(record, config)},
        notes=_notes(record, loaded.task, config),
    )
    named = {
        "decided": record.decision_times,
        "started": record.tick_jitter,
        "sent": record.command_age,
        "memory": record.memory,
    }
    tensors = {name: torch.from_numpy(ring.rows.copy()).float() for name, ring in named.items()}
    with all_or_nothing((results, plot, ticks)):  # else what is there would refuse the next attempt
        save_tensors(ticks, tensors | {"stalls": torch.tensor(record.stalls)})
        save(soak_figure(record, config, f"{loaded.task.name}, {row}"), plot)
        seal(results, report)
    return report


def table(reports: Mapping[str, dict[str, Any]]) -> Table:
    """Return a line per report."""
    rows = {}
    for name, report in reports.items():
        ((measured, row),) = report["rows"].items()
        ended = {end.removeprefix(ENDED): value["mean"] for end, value in row.items() if end.startswith(ENDED)}
        shown = {
            "engine": report["config"].get(measured, {}).get("engine", "").split(":")[0],
            "rate": f"{report['config']['run']['rate']:g}",
            "ended": ", ".join(f"{count:.0f} {outcome}" for outcome, count in ended.items()),
        }
        rows[name] = row | {metric: {"text": text} for metric, text in shown.items()}
    return Table(COLUMNS, rows)


def tables(results: Path) -> dict[str, Table]:
    """Return the table of all committed runs."""
    return {"realtime": table(records(results / "realtime"))}


def _notes(record: Record, task: Task, config: SoakConfig) -> list[str]:
    ended = ", ".join(f"{count} {outcome}" for outcome, count in record.outcomes.most_common())
    stall = config.fault
    cut = f"Ended by {record.ended_by}, {record.ticks} of {config.ticks} ticks were driven."
    return [
        *([cut] if record.ended_by is not None else []),
        f"Wall time. Decisions at {config.rate:g} Hz; the simulated robot keeps its own time, and rows of a plan stay "
        f"{1e3 * task.control.control_dt:g} ms apart. Scenes ended: {ended}. Resets between scenes are not control "
        "time.",
        "overruns: ticks without their decision by the time the next one was due. starved_ticks: nothing was sent. "
        "late_*: what the fallback did instead. dropped_decisions: their observation had expired when they "
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


def _settings(config: SoakConfig) -> dict[str, Any]:
    """Return the configuration by the keys of the published records."""
    timeouts = config.fallback_timeouts
    return {
        "duration": config.duration,
        "rate": config.rate,
        "patience": {
            "expiry": timeouts.max_observation_age, "fade": timeouts.deceleration_time, "stop": timeouts.stop,
        },
        "timeout": config.timeout,
        "first_scene": config.first_scene,
        "stall": None if config.fault is None else asdict(config.fault),
        "realtime": config.realtime,
    }  # fmt: skip
