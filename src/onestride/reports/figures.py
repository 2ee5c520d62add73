"""Figures of every evaluation: principal components of candidates, latency, a strip of the films, training curves.

Every function of ``figures*.py`` returns a matplotlib ``Figure`` in the style of ``style.py``, whose ``save`` writes
it, and touches no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from onestride.evaluation.records import read_records
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.reports.films import Strip
from onestride.reports.style import ARRIVED, FAILED, GREY, GRID, STYLE, colour, dot, label, method_colours, ordered

# --- principal components ----------------------------------------------------------------------------------------


def principal_components(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points x (n, d): their mean (d,), the first k directions (k, d), the variance each explains (k,) in 0..1."""
    mean = x.mean(0)
    _, s, directions = np.linalg.svd(x - mean, full_matrices=False)
    total = float((s**2).sum())
    return mean, directions[:k], s[:k] ** 2 / total if total > 0 else np.zeros(k)


def pca_figure(
    candidates: Mapping[Variant, np.ndarray], states: Sequence[str], unit: str = "",
    scores: Mapping[Variant, np.ndarray] | None = None, most: int = 3,
) -> Figure:  # fmt: skip
    """Return whole candidates (S, N, H, D) as points in the plane of the teacher's two first components.

    A column per state, a line per student, the teacher's points behind each. Axes are distances between whole plans,
    root mean square over their H steps or H D entries: the caller scales them so.

    Args:
        states: what each of the S states is called. unit: of the axes.
        scores: of the candidates (S, N): the best of each is marked.

    Raises:
        CheckpointError: those of the teacher or of every student are missing.
    """
    teacher, *students = candidates
    if teacher.method != "teacher" or not students:
        shown = ", ".join(variant.label for variant in candidates)
        raise CheckpointError(f"there are candidates of {shown} alone: the teacher and one student are needed")
    shown = range(min(most, len(states)))
    axis = "component {}" + f" [{unit}]" * bool(unit)
    tall = 4.2 if len(students) == len(shown) == 1 else 2.1
    with rc_context(STYLE):
        figure = Figure(figsize=(8, tall * len(students) + 0.7), layout="constrained")
        grid = figure.subplots(len(students), len(shown), squeeze=False, sharex="col", sharey="col")
        for s in shown:
            flat = {variant: sets[s].reshape(len(sets[s]), -1) for variant, sets in candidates.items()}  # (N, H D)
            mean, directions, explained = principal_components(flat[teacher], 2)
            for student, panel in zip(students, grid[:, s], strict=True):
                for variant, marker in ((teacher, "o"), (student, "^")):
                    x, y = directions @ (flat[variant] - mean).T
                    look: dict[str, Any] = {"color": colour(variant.method), "marker": marker}
                    panel.scatter(x, y, s=14, alpha=0.6, linewidths=0, **look)
                    if scores is not None:
                        best = scores[variant][s].argmax()
                        panel.scatter(x[best], y[best], s=60, edgecolors="black", linewidths=1.2, zorder=4, **look)
                panel.margins(0.08)
                panel.tick_params(labelsize=7)
            share = " + ".join(f"{each:.0%}" for each in explained)
            grid[0, s].set_title(f"{states[s]}, explained: {share}", fontweight="normal", fontsize=9)
            grid[-1, s].set_xlabel(axis.format(1), fontsize=8)
        for student, panel in zip(students, grid[:, 0], strict=True):
            panel.set_ylabel(axis.format(2), fontsize=8)
            panel.annotate(
                student.label, (0, 0.5), xycoords=panel.yaxis.label, xytext=(-9, 0), textcoords="offset points",
                rotation=90, ha="right", va="center", fontweight="bold", color=colour(student.method),
            )  # fmt: skip
        handles = [dot("o", colour("teacher"), teacher.label)]
        handles += [dot("^", colour(student.method), student.label) for student in students]
        if scores is not None:
            handles.append(dot("o", "black", "chosen: the best score", hollow=True))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


# --- latency -----------------------------------------------------------------------------------------------------


def read_latency(path: Path) -> dict[str, np.ndarray]:
    """Return the wall time of every decision [ms] by row, from the records of ``episodes.jsonl``.

    Raises:
        CheckpointError: a broken line, or no decision.
    """
    times: dict[str, list[float]] = {}
    for record in read_records(path):
        times.setdefault(record["row"], []).extend(record.get("decision_ms", []))
    if not any(times.values()):
        raise CheckpointError(f"{path} holds no decision: evaluate again")
    return {row: np.array(each) for row, each in times.items() if each}


def latency_figure(latency: Mapping[Variant, np.ndarray], period_ms: float) -> Figure:
    """Return how long decisions took (n,) [ms], one band per variant on a shared logarithmic axis."""
    everything = np.concatenate(list(latency.values()))
    low, high = min(everything.min(), period_ms) / 1.4, max(everything.max(), period_ms) * 1.4
    bins = np.geomspace(low, high, 90)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.95 * len(latency) + 0.9), layout="constrained")
        panels = figure.subplots(len(latency), 1, sharex=True, squeeze=False)[:, 0]
        for (variant, times), panel in zip(latency.items(), panels, strict=True):
            shade = colour(variant.method)
            share = np.histogram(times, bins)[0] / len(times)
            panel.stairs(share, bins, fill=True, color=shade, alpha=0.75)
            panel.axvline(period_ms, color="black", linewidth=1.1)
            p50, p95 = np.percentile(times, (50, 95))
            panel.axvline(p95, color=shade, linestyle="--", linewidth=1.2)
            panel.set_ylim(0, 1.25 * share.max())
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
            panel.set_ylabel(variant.label, rotation=0, ha="right", va="center", fontweight="bold", color=shade)
            left = p95 > np.sqrt(low * high)  # where there is more room
            first = times.min()
            if left and 0.6 * first < period_ms < p95:
                first = min(first, period_ms)  # clear of the period's line
            panel.annotate(
                f"p50 {p50:.3g} ms\np95 {p95:.3g} ms", (first if left else p95, 0.92),
                xycoords=("data", "axes fraction"), xytext=(-5 if left else 5, 0), textcoords="offset points",
                ha="right" if left else "left", va="top", fontsize=8.5,
            )  # fmt: skip
        panels[0].annotate(
            f"control period, {period_ms:g} ms", (period_ms, 1.0), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8.5,
        )  # fmt: skip
        panels[-1].set_xscale("log")
        panels[-1].set_xlim(low, high)
        panels[-1].xaxis.set_major_formatter("{x:g}")
        panels[-1].xaxis.set_minor_formatter(LogFormatter())
        panels[-1].set_xlabel("time of one decision [ms]; height: share of decisions; dashed: 95th percentile")
    return figure


# --- a strip of the films ----------------------------------------------------------------------------------------


def frames_figure(strip: Strip) -> Figure:
    """Return frames of the films, a line per variant, a column per moment."""
    columns = len(strip.moments)
    h, w = next(iter(strip.frames.values()))[0].shape[:2]
    with rc_context(STYLE):
        gap, side, head = 0.04, 0.27, 0.25  # [in]
        wide = (8 - side - gap * columns) / columns
        tall = wide * h / w
        size = (8, head + len(strip.frames) * (tall + gap))
        figure = Figure(figsize=size)
        grid = figure.subplots(len(strip.frames), columns, squeeze=False)
        margins = {"left": side / 8, "right": 1 - gap / 8, "bottom": gap / size[1], "top": 1 - head / size[1]}
        figure.subplots_adjust(**margins, wspace=gap / wide, hspace=gap / tall)
        for line, (variant, frames) in zip(grid, strip.frames.items(), strict=True):
            for panel, frame, note in zip(line, frames, strip.notes[variant], strict=True):
                panel.imshow(frame)
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if note:
                    badge = {"boxstyle": "round,pad=0.3", "edgecolor": "none"}
                    badge["facecolor"] = ARRIVED if note.startswith("arrived") else FAILED
                    look: dict[str, Any] = {"color": "white", "fontsize": 7, "bbox": badge, "va": "top"}
                    panel.text(0.04, 0.96, note, transform=panel.transAxes, **look)
            line[0].set_ylabel(variant.label, fontweight="bold", color=colour(variant.method))
        for panel, t in zip(grid[0], strip.moments, strict=True):
            panel.set_title(f"{t:.1f} s", fontweight="normal", fontsize=9, pad=3)
    return figure


# --- training ----------------------------------------------------------------------------------------------------

Curve = Sequence[Sequence[float]]  # of (step, value)


def loss_terms(history: Curve | Mapping[str, Curve]) -> dict[str, np.ndarray]:
    """Return the curves (n, 2) of step and value in a training's history, by the name of the loss term."""
    named = history if isinstance(history, Mapping) else {"loss": history}
    return {term: np.array(curve, dtype=float) for term, curve in named.items() if len(curve)}


def training_figure(trainings: Mapping[str, Sequence[Mapping[str, np.ndarray]]], width: int = 4) -> Figure:
    """Return a panel per network with every loss term over training steps, a line for each of its seeds.

    trainings: name of the network -> for each seed, loss term -> (n, 2) of step and value.
    """
    names = ordered(trainings)
    columns = min(width, len(names))
    lines = -(-len(names) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 1.75 * lines + 0.25), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel in grid[len(names) :]:
            panel.set_axis_off()
        for name, panel in zip(names, grid[: len(names)], strict=True):
            terms = list(dict.fromkeys(term for curves in trainings[name] for term in curves))
            shades = {term: colour(name) if term == "loss" else GREY for term in terms}
            others = [shade for shade in method_colours() if shade != colour(name)]
            shades |= dict(zip((term for term in terms if term != "loss"), others, strict=False))
            for curves in trainings[name]:
                for term, curve in curves.items():
                    marker = "o" if len(curve) == 1 else ""
                    panel.plot(*curve.T, color=shades[term], marker=marker, markersize=3, linewidth=1.1, alpha=0.85)
            positive = all((curve[:, 1] > 0).all() for curves in trainings[name] for curve in curves.values())
            panel.set_yscale("log" if positive else "linear")
            panel.set_title(label(name), fontsize=9, color=colour(name))
            panel.tick_params(labelsize=7)
            panel.tick_params(which="minor", labelsize=6)
            panel.grid(axis="y", color=GRID, linewidth=0.6)
            if len(terms) > 1:
                panel.legend(handles=[dot("_", shades[term], term) for term in terms], fontsize=6, labelspacing=0.2)
        figure.supxlabel("training step", fontsize=8)
        figure.supylabel("loss", fontsize=8)
    return figure
