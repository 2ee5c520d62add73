"""The pictures of an evaluation: candidates, their principal components, latency, and a strip of frames.

Every function returns a matplotlib ``Figure`` (8 inches wide; ``save`` makes it 1600 px) and touches no global
state. Colours are safe for colour-blind readers: one per method (Okabe-Ito), viridis for scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib.patheffects import Normal, Stroke

from onestride.files import LARGEST, CheckpointError, decode, read_bytes
from onestride.reports.style import ARRIVED, CHOSEN, FAILED, OBSTACLE, SCORES, STYLE, colour, label, ordered
from onestride.seals import unsealed
from onestride.tasks.kinova.scene import ABSENT, SPHERE
from onestride.tensors import load_tensors

SQUAREST = 0.45  # of a panel's width: its least height


# --- the candidates of one state ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """Candidate plans of every method from the starts of S scenes, base frame [m]."""

    scenes: list[int]  # number of each scene in the evaluation, S
    obstacles: np.ndarray  # (S, 4, 8), see ``tasks.kinova.scene``
    start: np.ndarray  # (S, 3)
    goal: np.ndarray  # (S, 3)
    paths: dict[str, np.ndarray]  # row -> (S, N, H, 3)
    scores: dict[str, np.ndarray]  # row -> (S, N), higher is better

    @classmethod
    def load(cls, path: Path) -> Candidates:
        """Read ``candidates.safetensors``.

        Raises:
            CheckpointError: no such file, or a tensor is missing.
        """
        tensors, header = load_tensors(path)
        arrays = {name: value.double().numpy() for name, value in tensors.items()}
        rows = ordered(name.removeprefix("paths.") for name in arrays if name.startswith("paths."))
        wanted = ["obstacles", "start", "goal", *(f"scores.{row}" for row in rows)]
        missing = [name for name in wanted if name not in arrays]
        if missing or not rows:
            raise CheckpointError(f"{path} lacks {missing or 'paths.<row>'}, it holds {sorted(arrays)}: evaluate again")
        scenes = (
            decode(header["scenes"], list[int], f"{path}, header, scenes")
            if "scenes" in header
            else list(range(len(arrays["start"])))
        )
        paths, scores = ({row: arrays[f"{kind}.{row}"] for row in rows} for kind in ("paths", "scores"))
        return cls(scenes, arrays["obstacles"], arrays["start"], arrays["goal"], paths, scores)

    def pair(self) -> tuple[str, str]:
        """The two rows to set side by side: the teacher and its first student."""
        rows = ordered(self.paths)
        if "teacher" not in rows or len(rows) < 2:
            raise CheckpointError(f"candidates of {rows} cannot be compared: the teacher and one student are needed")
        return "teacher", rows[1]

    def widest(self) -> int:
        """The scene (an index below S) in which the teacher's candidates differ most."""
        spread = self.paths["teacher"].std(1).mean((1, 2))  # (S,)
        return int(spread.argmax())


def candidates_figure(candidates: Candidates, s: int) -> Figure:
    """Teacher and student side by side in scene ``s``: from above, and from the side along start to goal."""
    rows = candidates.pair()
    start, goal = candidates.start[s], candidates.goal[s]
    along = (goal - start)[:2] / max(float(np.linalg.norm((goal - start)[:2])), 1e-9)
    axes3 = np.array([[*along, 0.0], [-along[1], along[0], 0.0], [0.0, 0.0, 1.0]])  # rows: along, left, up
    everything = np.concatenate([candidates.paths[row][s].reshape(-1, 3) for row in rows] + [start[None], goal[None]])
    seen = 100 * (everything - start) @ axes3.T  # [cm]
    low, high = seen.min(0) - 4, seen.max(0) + 4
    least = SQUAREST * (high[0] - low[0])  # labels need room where candidates differ little
    lacking = np.maximum(least - (high - low), 0)
    low, high = low - lacking / 2, high + lacking / 2
    scores = np.concatenate([candidates.scores[row][s] for row in rows])
    norm = Normalize(float(np.quantile(scores, 0.05)), float(scores.max()))
    with rc_context(STYLE):
        heights = [high[1] - low[1], high[2] - low[2]]
        width = 3.35  # of one panel [in]
        figure = Figure(figsize=(8, width * sum(heights) / (high[0] - low[0]) + 1.25), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=heights)
        for column, row in enumerate(rows):
            paths = 100 * (candidates.paths[row][s] - start) @ axes3.T  # (N, H, 3) [cm]
            for panel, up in ((grid[0, column], 1), (grid[1, column], 2)):
                for obstacle in candidates.obstacles[s]:
                    _draw_obstacle(panel, obstacle, start, axes3, up)
                _draw_paths(panel, paths[..., (0, up)], candidates.scores[row][s], norm)
                way = 100 * axes3 @ (goal - start)
                mark: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none", "zorder": 6}
                panel.plot(0, 0, marker="o", color="white", markersize=7, label="start", **mark)
                panel.plot(way[0], way[up], marker="*", color="#F0E442", markersize=13, label="goal", **mark)
                panel.set_xlim(low[0], high[0])
                panel.set_ylim(low[up], high[up])
                panel.set_aspect("equal")
            grid[0, column].set_title(f"{label(row)}: {len(paths)} candidates")
            grid[1, column].set_xlabel("toward the goal [cm]")
        grid[0, 0].set_ylabel("left, from above [cm]")
        grid[1, 0].set_ylabel("up, from the side [cm]")
        figure.colorbar(ScalarMappable(norm, SCORES), ax=grid, label="score", shrink=0.8, aspect=30, extend="min")
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _draw_paths(panel: Axes, paths: np.ndarray, scores: np.ndarray, norm: Normalize) -> None:
    """Paths (N, H, 2) coloured by score, the best on top and outlined."""
    order = scores.argsort()
    lines = LineCollection(list(paths[order]), array=scores[order], norm=norm, cmap=SCORES, linewidths=0.9, alpha=0.85)
    panel.add_collection(lines)
    outline = [Stroke(linewidth=4.2, foreground="white"), Normal()]
    best = paths[order[-1]].T
    panel.plot(*best, color=CHOSEN, linewidth=2.2, path_effects=outline, label="chosen: the best score", zorder=5)


def _draw_obstacle(panel: Axes, row: np.ndarray, origin: np.ndarray, axes3: np.ndarray, up: int) -> None:
    """The outline of one obstacle, seen along the axis that is neither 0 nor ``up``."""
    kind, centre, half, yaw = row[0], row[1:4], row[4:7], row[7]
    if kind == ABSENT:
        return
    look: dict[str, Any] = {"facecolor": OBSTACLE, "edgecolor": "#6B7280", "linewidth": 0.8}
    if up == 2:  # paths pass in front of it and behind: its outline only
        look = {"facecolor": "none", "edgecolor": "#374151", "linewidth": 1.1, "linestyle": "--", "zorder": 4}
    middle = 100 * axes3 @ (centre - origin)
    if kind == SPHERE:
        panel.add_patch(Circle((middle[0], middle[up]), 100 * half[0], **look))
        return
    cos, sin = np.cos(yaw), np.sin(yaw)
    edges = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) * half[:, None]  # (3, 3): rows to the faces
    if up == 1:
        corners = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]) @ edges
        outline = middle + 100 * corners @ axes3.T
    else:
        reach = np.abs(edges @ axes3[0]).sum()  # along the view's horizontal axis
        corners = np.array([[1, 0, 1], [1, 0, -1], [-1, 0, -1], [-1, 0, 1]]) * (reach, 0, half[2])
        outline = middle + 100 * corners
    panel.add_patch(Polygon(outline[:, (0, up)], closed=True, **look))


# --- principal components ----------------------------------------------------------------------------------------


def principal_components(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points x (n, d): their mean (d,), the first k directions (k, d), the variance each explains (k,) in 0..1."""
    mean = x.mean(0)
    _, s, directions = np.linalg.svd(x - mean, full_matrices=False)
    total = float((s**2).sum())
    return mean, directions[:k], s[:k] ** 2 / total if total > 0 else np.zeros(k)


def pca_figure(candidates: Candidates, most: int = 3) -> Figure:
    """Whole candidate paths as points, in the plane of the teacher's two first components; a panel per scene.

    The axes are distances between whole paths, root mean square over their rows, and say how much of the
    teacher's variance they explain.
    """
    rows = candidates.pair()
    shown = range(min(most, len(candidates.scenes)))
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 8 / len(shown) + 0.35 if len(shown) > 1 else 5), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for s, panel in zip(shown, panels, strict=True):
            clouds = {row: candidates.paths[row][s].reshape(len(candidates.paths[row][s]), -1) for row in rows}
            mean, directions, explained = principal_components(clouds["teacher"], 2)
            for row, marker in zip(rows, "o^", strict=True):
                x, y = 100 * directions @ (clouds[row] - mean).T / np.sqrt(candidates.paths[row].shape[2])  # rms [cm]
                look: dict[str, Any] = {"color": colour(row), "marker": marker}
                panel.scatter(x, y, s=22, alpha=0.6, linewidths=0, label=label(row), **look)
                best, name = candidates.scores[row][s].argmax(), f"{label(row)}, chosen"
                panel.scatter(x[best], y[best], s=75, edgecolors="black", linewidths=1.2, zorder=4, label=name, **look)
            panel.set_title(f"scene {candidates.scenes[s]}", fontweight="normal")
            panel.set_xlabel(f"component 1 [cm], {explained[0]:.0%}")
            panel.set_ylabel(f"component 2 [cm], {explained[1]:.0%}")
            panel.margins(0.08)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# --- latency -----------------------------------------------------------------------------------------------------


class Decided(TypedDict):
    """What is read of an episode's record."""

    row: str
    decision_ms: list[float]


def read_latency(path: Path) -> dict[str, np.ndarray]:
    """Wall time of every decision [ms] by row, from ``episodes.jsonl``.

    Raises:
        CheckpointError: no such file, a broken line, or no decision in it.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: evaluate again")
    times: dict[str, list[float]] = {}
    for number, line in enumerate(read_bytes(path, 16 * LARGEST).splitlines(), 1):
        where = f"{path}, line {number}"
        episode = unsealed(line, where, Decided, required=False, advice="evaluate again")
        times.setdefault(episode["row"], []).extend(episode["decision_ms"])
    if not any(times.values()):
        raise CheckpointError(f"{path} holds no decision: evaluate again")
    return {row: np.array(times[row]) for row in ordered(times) if times[row]}


def latency_figure(latency: dict[str, np.ndarray], period_ms: float = 50.0) -> Figure:
    """How long decisions took: row -> (n,) [ms], one band per method on a shared logarithmic axis."""
    everything = np.concatenate(list(latency.values()))
    low, high = min(everything.min(), period_ms) / 1.4, max(everything.max(), period_ms) * 1.4
    bins = np.geomspace(low, high, 90)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.95 * len(latency) + 0.9), layout="constrained")
        panels = figure.subplots(len(latency), 1, sharex=True, squeeze=False)[:, 0]
        for (row, times), panel in zip(latency.items(), panels, strict=True):
            shade = colour(row)
            share = np.histogram(times, bins)[0] / len(times)
            panel.stairs(share, bins, fill=True, color=shade, alpha=0.75)
            panel.axvline(period_ms, color="black", linewidth=1.1)
            p50, p95 = np.percentile(times, (50, 95))
            panel.axvline(p95, color=shade, linestyle="--", linewidth=1.2)
            panel.set_ylim(0, 1.25 * share.max())
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
            panel.set_ylabel(label(row), rotation=0, ha="right", va="center", fontweight="bold", color=shade)
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
        panels[-1].set_xlabel("time of one decision [ms]; height: share of decisions; dashed: 95th percentile")
    return figure


# --- a strip of the film -----------------------------------------------------------------------------------------


def frames_figure(stills: dict[str, list[np.ndarray]], moments: np.ndarray, notes: dict[str, list[str]]) -> Figure:
    """A strip of the film: row -> M frames (h, w, 3) uint8 at ``moments`` (M,) [s], and a note (or "") for each."""
    rows, columns = ordered(stills), len(moments)
    h, w = stills[rows[0]][0].shape[:2]
    with rc_context(STYLE):
        gap, side, head = 0.04, 0.27, 0.25  # [in]
        wide = (8 - side - gap * columns) / columns
        tall = wide * h / w
        size = (8, head + len(rows) * (tall + gap))
        figure = Figure(figsize=size)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        margins = {"left": side / 8, "right": 1 - gap / 8, "bottom": gap / size[1], "top": 1 - head / size[1]}
        figure.subplots_adjust(**margins, wspace=gap / wide, hspace=gap / tall)
        for line, row in zip(grid, rows, strict=True):
            for panel, frame, note in zip(line, stills[row], notes[row], strict=True):
                panel.imshow(frame)
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if note:
                    badge_colour = ARRIVED if note.startswith("arrived") else FAILED
                    badge = {"boxstyle": "round,pad=0.3", "facecolor": badge_colour, "edgecolor": "none"}
                    place = panel.transAxes
                    panel.text(0.04, 0.96, note, color="white", fontsize=7, bbox=badge, transform=place, va="top")
            line[0].set_ylabel(label(row), fontweight="bold", color=colour(row))
        for panel, t in zip(grid[0], moments, strict=True):
            panel.set_title(f"{t:.1f} s", fontweight="normal", fontsize=9, pad=3)
    return figure
