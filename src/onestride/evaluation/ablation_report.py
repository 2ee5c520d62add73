"""Ablations as tables and one picture: what each piece of DNK is worth, how many candidates and steps are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from onestride.evaluation.benchmark_figures import Row
from onestride.evaluation.benchmark_report import LATENCY, NFE, RETURN, SPREAD, UNSELECTED, WORST, narrow_table
from onestride.evaluation.report import Column, markdown
from onestride.reports.style import COLOURS, STYLE

#: Variants of equal budget, the reference first.
VARIANTS = {
    "dnk": "DNK, whole",
    "no-spectral": "without the spectral term",
    "no-inverse": "without the inverse term",
    "no-weights": "without sample weights",
    "no-action": "without the action loss",
    "single-lambda": "one λ instead of a mix",
    "ancestral": "pairs of an ancestral teacher",
}
CANDIDATES, STEPS = "candidates-", "teacher-ddim-"  # and a number
DISTANCE = Column("teacher_distance", "distance from the teacher's", digits=3)
VARIANT_COLUMNS = (RETURN, WORST, UNSELECTED, SPREAD, DISTANCE)
TERMINAL = {"return": RETURN, "worst seed": WORST, "nobody selects": UNSELECTED, "from the teacher's": DISTANCE}
NUMBER_COLUMNS = (NFE, RETURN, WORST, UNSELECTED, DISTANCE, LATENCY)


def numbered(rows: Mapping[str, Row], start: str) -> dict[int, Row]:
    """The rows whose name is ``start`` and a number, by that number."""
    found = {name.removeprefix(start): row for name, row in rows.items() if name.startswith(start)}
    return {int(number): found[number] for number in sorted((n for n in found if n.isdecimal()), key=int)}


def variant_table(comparison: dict[str, Any]) -> str:
    """A line per variant, as Markdown: mean ± standard deviation over training seeds."""
    rows = comparison["rows"]
    return _table({label: rows[name] for name, label in VARIANTS.items() if name in rows}, VARIANT_COLUMNS)


def number_table(comparison: dict[str, Any]) -> str:
    """The teacher by its steps and DNK by its candidates, as Markdown."""
    return _table(_numbered_lines(comparison["rows"]), NUMBER_COLUMNS)


def terminal_table(comparison: dict[str, Any]) -> Table:
    """The main numbers for the end of a program, rows named and ordered as in the documents."""
    rows = comparison["rows"]
    lines = {name: rows[row] for row, name in VARIANTS.items() if row in rows} | _numbered_lines(rows)
    return narrow_table(f"{comparison['experiment']}: means over seeds", lines, TERMINAL)


def _numbered_lines(rows: Mapping[str, Row]) -> dict[str, Row]:
    lines = {f"Teacher, DDIM, {n} step{'s' if n > 1 else ''}": row for n, row in numbered(rows, STEPS).items()}
    return lines | {f"DNK, {n} candidate{'s' if n > 1 else ''}": row for n, row in numbered(rows, CANDIDATES).items()}


def _table(lines: Mapping[str, Row], columns: Sequence[Column]) -> str:
    cells = [[label, *(column.cell(row) for column in columns)] for label, row in lines.items()]
    return markdown([["", *(column.heading for column in columns)], *cells])


# --- one picture -------------------------------------------------------------------------------------------------


def figure(comparison: dict[str, Any]) -> Figure:
    """Variants above (distance from the teacher, return), numbers of candidates and of steps below.

    A dot is a training seed, a stroke or line their mean.
    """
    rows = comparison["rows"]
    with rc_context(STYLE):
        made = Figure(figsize=(8, 5.8), layout="constrained")
        (distance, score), (candidates, steps) = made.subplots(2, 2)
        _variants(distance, rows, DISTANCE.metric, "first actions' distance from the teacher's")
        _variants(score, rows, RETURN.metric, "normalised return")
        score.set_yticklabels([])
        _curve(candidates, numbered(rows, CANDIDATES), RETURN.metric, "dnk", "DNK, by the critic")
        candidates.set_xlabel("candidates")
        teacher = numbered(rows, STEPS)
        _curve(steps, teacher, RETURN.metric, "teacher", "teacher, by the critic")
        _curve(
            steps, teacher, UNSELECTED.metric, "teacher", "teacher, unselected", linestyle="--", markerfacecolor="white"
        )
        whole = numbered(rows, CANDIDATES).get(64)
        if whole is not None:
            steps.axhline(whole[RETURN.metric]["mean"], color=COLOURS["dnk"], linewidth=1, label="DNK, one call")
        steps.set_xlabel("network calls of the teacher (DDIM)")
        for panel in (candidates, steps):
            panel.set_ylabel("normalised return")
            panel.legend(fontsize=8)
    return made


def _variants(panel: Axes, rows: Mapping[str, Row], metric: str, title: str) -> None:
    names = [name for name in VARIANTS if metric in rows.get(name, {})]
    for place, name in enumerate(names):
        values = rows[name][metric]["per_seed"]
        shade = COLOURS["dnk"] if name == "dnk" else "#555"
        panel.plot(values, np.full(len(values), place), "o", color=shade, alpha=0.7, markeredgewidth=0)
        panel.vlines(np.mean(values), place - 0.3, place + 0.3, color=shade, linewidth=1.5)
    if names and names[0] == "dnk":
        panel.axvline(rows["dnk"][metric]["mean"], color=COLOURS["dnk"], linewidth=0.7, linestyle=":", zorder=0)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_yticks(range(len(names)), [VARIANTS[name] for name in names])
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#E6E8EC", linewidth=0.6)
    panel.set_xlabel(title)


def _curve(panel: Axes, rows: Mapping[int, Row], metric: str, method: str, name: str, **look: Any) -> None:
    points = {n: row[metric]["per_seed"] for n, row in rows.items() if metric in row}
    for n, values in points.items():
        panel.plot(np.full(len(values), n), values, ".", color=COLOURS[method], alpha=0.45, markeredgewidth=0)
    means = [float(np.mean(values)) for values in points.values()]
    panel.plot(list(points), means, color=COLOURS[method], **({"marker": "o", "markersize": 4} | look), label=name)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xticks(list(points))
    panel.minorticks_off()
    panel.grid(axis="y", color="#E6E8EC", linewidth=0.6)
