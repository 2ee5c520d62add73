"""The pictures of a benchmark's evaluation: latency against return, principal components, every episode's return.

Every function returns a matplotlib ``Figure`` in the style of ``figures.py``, whose ``save`` writes it. A row's name
is its generator's and, where another than the usual selector ranked, that one's: "dnk-classifier".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from onestride.evaluation.figures import principal_components
from onestride.evaluation.lineup import RANKING, SELECTORS, parts
from onestride.files import CheckpointError
from onestride.reports import style
from onestride.reports.style import GREY, GRID, LABELS, PAPER_GREY, STYLE
from onestride.tensors import load_tensors

MARKERS = {"iql": "o", "engine": "P", "int8": "X", "mixture": "p", "first": "D", "classifier": "s", "unselected": "v"}

Row = Mapping[str, Mapping[str, Any]]  # metric -> {"mean", "std", "n", "per_seed"}


def label(row: str) -> str:
    generator, selector = parts(row)
    name = style.label(generator)
    return name if generator == row else f"{name} ({SELECTORS[selector]})"


def colour(row: str) -> str:
    return style.colour(parts(row)[0])


def ordered(rows: Iterable[str]) -> list[str]:
    """Teacher first, then the students as ``LABELS`` lists them; of each its usual selector first."""
    order, selectors = list(LABELS), list(SELECTORS)

    def key(row: str) -> tuple[int, str, bool, int]:
        generator, selector = parts(row)
        place = order.index(generator) if generator in order else len(order)
        return place, generator, generator != row, selectors.index(selector)

    return sorted(rows, key=key)


# --- latency against return --------------------------------------------------------------------------------------


def pareto_figure(rows: Mapping[str, Row], paper: Mapping[str, Row], paper_label: str) -> Figure:
    """Mean decision latency [ms] against normalised return, its bar the standard deviation over seeds.

    The line joins the rows that no other row beats in both. ``paper``: its own points, hollow and in grey.
    """
    ours, theirs = _points(rows), _points(paper)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 5.2), layout="constrained")
        panel = figure.subplots()
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("time of one decision, mean [ms]")
        panel.set_ylabel("normalised return")
        panel.grid(axis="y", color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        for row, (x, y, std) in theirs.items():
            bar: dict[str, Any] = {"color": PAPER_GREY, "markerfacecolor": "white", "markersize": 6, "linewidth": 0.8}
            panel.errorbar(x, y, std, fmt=MARKERS[parts(row)[1]], zorder=2, **bar)
        for row, (x, y, std) in ours.items():
            bar = {
                "color": colour(row),
                "markersize": 7.5,
                "linewidth": 1.3,
                "capsize": 2.5,
                "markeredgecolor": "white",
            }
            panel.errorbar(x, y, std, fmt=MARKERS[parts(row)[1]], markeredgewidth=0.6, zorder=4, **bar)
        front = _front([(x, y) for x, y, _ in ours.values()])
        panel.plot(*zip(*front, strict=True), color="#444", linewidth=0.9, linestyle=":", zorder=1)
        panel.margins(x=0.16, y=0.1)
        handles = [_dot(MARKERS[s], GREY, f"ranked by {SELECTORS[s]}") for s in RANKING]
        handles.append(Line2D([], [], color="#444", linewidth=0.9, linestyle=":", label="not beaten in both"))
        if theirs:
            handles.append(_dot("o", PAPER_GREY, paper_label, hollow=True))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
        named = [(point, label(row), colour(row), 8.5) for row, point in ours.items()]
        named += [(point, f"{label(row)}, paper", PAPER_GREY, 7.5) for row, point in theirs.items()]
        _annotate(panel, named)
    return figure


def _points(rows: Mapping[str, Row]) -> dict[str, tuple[float, float, float]]:
    """Row -> latency [ms], return and its standard deviation, of those that have both."""
    found = {}
    for row in ordered(rows):
        x, y = (rows[row].get(metric, {}) for metric in ("decision_ms_mean", "return_normalised"))
        if x.get("mean") is not None and y.get("mean") is not None:
            found[row] = (x["mean"], y["mean"], y.get("std") or 0.0)
    return found


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the steps between points that no other is faster and better than."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if not corners or y > corners[-1][1]:
            corners += [(x, corners[-1][1])] if corners else []
            corners.append((x, y))
    return corners


def _dot(marker: str, shade: str, name: str, hollow: bool = False) -> Line2D:
    face = "white" if hollow else shade
    return Line2D([], [], marker=marker, color=shade, markerfacecolor=face, linestyle="none", markersize=6, label=name)


def _annotate(panel: Axes, named: Sequence[tuple[tuple[float, float, float], str, str, float]]) -> None:
    """A name beside every point ((x, y, std), name, colour, size), at the nearest place where nothing else stands."""
    figure = panel.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles the layout
    unit = figure.dpi / 72  # px per point
    taken: list[Bbox] = []
    for (x, y, std), *_ in named:
        (u, low), (_, middle), (_, high) = panel.transData.transform([(x, y - std), (x, y), (x, y + std)])
        taken.append(Bbox.from_extents(u - 5 * unit, middle - 5 * unit, u + 5 * unit, middle + 5 * unit))
        taken.append(Bbox.from_extents(u - 2 * unit, low, u + 2 * unit, high))
    around = [(np.cos(a), np.sin(a)) for a in np.deg2rad([0, 180, 25, -25, 155, -155, 50, -50, 130, -130, 90, -90])]
    for (x, y, _), name, shade, size in named:
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "zorder": 5}
        for distance, (dx, dy) in ((d, way) for d in (8, 15, 25, 36, 50, 66, 84) for way in around):
            look["ha"] = "left" if dx > 0.1 else "right" if dx < -0.1 else "center"
            text = panel.annotate(name, (x, y), (distance * dx, distance * dy), color=shade, fontsize=size, **look)
            box = text.get_window_extent()
            inside = panel.bbox.contains(box.x0, box.y0) and panel.bbox.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            panel.annotate(name, (x, y), (8, 0), color=shade, fontsize=size, **look)
            continue
        taken.append(box)
        if distance > 10:  # a line says whose name it is
            line = {"arrowstyle": "-", "color": shade, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            at = (distance * dx, distance * dy)
            panel.annotate("", (x, y), at, textcoords="offset points", arrowprops=line)


# --- principal components ----------------------------------------------------------------------------------------


def read_plans(path: Path) -> dict[str, np.ndarray]:
    """Candidates of every row (S, N, H, D), normalised, from ``candidates.safetensors``.

    Raises:
        CheckpointError: no such file, or the teacher or every student is missing.
    """
    tensors, _ = load_tensors(path)
    found = {n.removeprefix("plans."): v.double().numpy() for n, v in tensors.items() if n.startswith("plans.")}
    if "teacher" not in found or len(found) < 2:
        raise CheckpointError(f"{path} holds plans of {ordered(found)}: the teacher and one student are needed")
    return {row: found[row] for row in ordered(found)}


def pca_figure(plans: Mapping[str, np.ndarray], most: int = 3) -> Figure:
    """Whole candidates (S, N, H, D) as points in the plane of the teacher's two first components.

    A column per state, a line per student, the teacher's cloud behind each. The axes are distances between whole
    plans, root mean square over their entries, in standard deviations of the data.
    """
    students = [row for row in plans if row != "teacher"]
    teacher = plans["teacher"]
    shown = range(min(most, len(teacher)))
    scale = np.sqrt(np.prod(teacher.shape[2:]))
    with rc_context(STYLE):
        size = (8, 2.1 * len(students) + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(students), len(shown), squeeze=False, sharex="col", sharey="col")
        for s in shown:
            mean, directions, explained = principal_components(_flat(teacher[s]), 2)
            for student, panel in zip(students, grid[:, s], strict=True):
                for row, marker in (("teacher", "o"), (student, "^")):
                    x, y = directions @ (_flat(plans[row][s]) - mean).T / scale
                    panel.scatter(x, y, s=14, alpha=0.6, linewidths=0, color=colour(row), marker=marker)
                panel.margins(0.08)
                panel.tick_params(labelsize=7)
            grid[0, s].set_title(f"state {s + 1}, explained: {_shares(explained)}", fontweight="normal", fontsize=9)
            grid[-1, s].set_xlabel("component 1", fontsize=8)
        for student, panel in zip(students, grid[:, 0], strict=True):
            panel.set_ylabel("component 2", fontsize=8)
            panel.annotate(
                label(student), (0, 0.5), xycoords=panel.yaxis.label, xytext=(-9, 0), textcoords="offset points",
                rotation=90, ha="right", va="center", fontweight="bold", color=colour(student),
            )  # fmt: skip
        handles = [_dot("o" if row == "teacher" else "^", colour(row), label(row)) for row in ("teacher", *students)]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _flat(cloud: np.ndarray) -> np.ndarray:
    return cloud.reshape(len(cloud), -1)  # (N, H D)


def _shares(explained: np.ndarray) -> str:
    return " + ".join(f"{share:.0%}" for share in explained)


# --- every episode -----------------------------------------------------------------------------------------------


def returns_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Every episode of ``episodes.jsonl`` as a dot, a lane per seed: falls and bad seeds that a mean hides.

    Raises:
        CheckpointError: there is no episode.
    """
    if not records:
        raise CheckpointError("there is no episode in episodes.jsonl: evaluate again")
    rows = ordered({r["row"] for r in records})
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.31 * len(rows) + 1.1), layout="constrained")
        panel = figure.subplots()
        for place, row in enumerate(rows):
            seeds = sorted({r["seed"] for r in records if r["row"] == row})
            for lane, seed in enumerate(seeds):
                y = place + 0.62 * ((lane + 0.5) / len(seeds) - 0.5)
                mine = [r for r in records if r["row"] == row and r["seed"] == seed]
                values, fell = np.array([r["return_normalised"] for r in mine]), np.array([r["fell"] for r in mine])
                for chosen, look in ((~fell, {"marker": "o", "s": 13}), (fell, {"marker": "x", "s": 15})):
                    edge = {"linewidths": 0 if look["marker"] == "o" else 0.9, "alpha": 0.65}
                    panel.scatter(values[chosen], np.full(chosen.sum(), y), color=colour(row), zorder=3, **look, **edge)
                panel.vlines(values.mean(), y - 0.13, y + 0.13, color="black", linewidth=1.2, zorder=4)
            if place % 2:
                panel.axhspan(place - 0.5, place + 0.5, color="#F5F6F8", linewidth=0, zorder=0)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_yticks(range(len(rows)), [label(row) for row in rows])
        for text, row in zip(panel.get_yticklabels(), rows, strict=True):
            text.set(color=colour(row), fontweight="bold" if parts(row)[0] == row else "normal")
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.set_xlabel("normalised return of one episode; a lane per seed, its mean the black stroke")
        if any(r["fell"] for r in records):
            handles = [_dot("o", GREY, "all the way"), _dot("x", GREY, "fell")]
            figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
