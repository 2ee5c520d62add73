"""What minutes of the control loop come to: a record by the schema, a plot, and every tick's times."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.evaluation.endurance_figure import endurance_figure
from onestride.evaluation.metrics import latency
from onestride.evaluation.result import result, utc
from onestride.files import together, writable
from onestride.latency.soak import LoadedPolicy, Record, SoakConfig
from onestride.reports.style import save
from onestride.seals import seal
from onestride.tasks.task import Task
from onestride.tensors import save_tensors

EDGE = 0.05  # memory at the beginning and at the end: the median of so much of the samples


def summary(record: Record, config: SoakConfig) -> dict[str, Any]:
    """One row of results: metric -> {"mean", "std", "n", "per_seed"}; each is one number of the whole run."""
    lateness, age = (1e3 * ring.rows[:, 1] for ring in (record.started, record.sent))
    times = latency(record.decided.rows[:, 1])
    start, end, growth = memory_growth(record.memory.rows[:, 1])
    p99 = times["decision_ms_p99"]
    values: dict[str, float | None] = {
        "control_s": record.ticks / config.rate,
        "ticks": record.ticks,
        "decisions": record.decided.count,
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
        **{f"{ENDED}{outcome}": count for outcome, count in record.outcomes.most_common()},
    }
    return {name: {"mean": value, "std": None, "n": 1, "per_seed": []} for name, value in values.items()}


#: Begins a metric: how many scenes ended so.
ENDED = "scenes ended: "


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
        OSError: the folder cannot be written.
    """
    files = out.with_suffix(".json"), out.with_suffix(".png"), out.with_suffix(".safetensors")
    there = [path.name for path in files if path.exists()]
    if there:
        raise FileExistsError(
            f"{out.parent} holds {', '.join(there)} already; give another --out, or remove them first"
        )
    writable(out.parent)
    return files


def write(
    out: Path, record: Record, loaded: LoadedPolicy, config: SoakConfig, row: str, command: str
) -> dict[str, Any]:
    """Write results, plot and every tick's times; returns the results."""
    results, plot, ticks = targets(out)
    report = result(
        f"realtime-{loaded.task.name}",
        command,
        config={"run": asdict(config), "granted": record.granted, row: loaded.about},
        seeds={"scenes": 0},
        started=utc(time.time() - (time.perf_counter() - record.began)),
        wall_s=record.wall_s,
        rows={row: summary(record, config)},
        notes=_notes(record, loaded.task, config),
    )
    named = {"decided": record.decided, "started": record.started, "sent": record.sent, "memory": record.memory}
    tensors = {name: torch.from_numpy(ring.rows.copy()).float() for name, ring in named.items()}
    with together((results, plot, ticks)):  # else what is there would refuse the next attempt
        save_tensors(ticks, tensors | {"stalls": torch.tensor(record.stalls)})
        save(endurance_figure(record, config, f"{loaded.task.name}, {row}"), plot)
        seal(results, report)
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
    made = [["", "engine", "rate [Hz]", "scenes ended", *(heading for heading, _, _ in SHOWN)]]
    for name, report in reports.items():
        ((measured, row),) = report["rows"].items()
        engine = report["config"].get(measured, {}).get("engine", "").split(":")[0]
        rate = f"{report['config']['run']['rate']:g}"
        ended = {name.removeprefix(ENDED): value["mean"] for name, value in row.items() if name.startswith(ENDED)}
        scenes = ", ".join(f"{count:.0f} {outcome}" for outcome, count in ended.items())
        values = (row.get(metric, {}).get("mean") for _, metric, _ in SHOWN)  # earlier reports have fewer
        shown = zip(SHOWN, values, strict=True)
        made.append(
            [
                name,
                engine,
                rate,
                scenes,
                *("" if value is None else form.format(value) for (_, _, form), value in shown),
            ]
        )
    return made


def _notes(record: Record, task: Task, config: SoakConfig) -> list[str]:
    ended = ", ".join(f"{count} {outcome}" for outcome, count in record.outcomes.most_common())
    stall = config.stall
    cut = f"Ended by {record.ended_by}, {record.ticks} of {config.ticks} ticks were driven."
    return [
        *([cut] if record.ended_by is not None else []),
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
