"""Candidates from one state among obstacles: paths past the obstacles, from above and from the side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib.patheffects import Normal, Stroke

from onestride.evaluation.variant import Variant
from onestride.files import decode
from onestride.reports.motions import read_arrays
from onestride.reports.style import CHOSEN, OBSTACLE, SCORES, STYLE
from onestride.tasks.obstacles import ABSENT, PILLAR, SPHERE

SQUAREST = 0.45  # of a panel's width: its least height


@dataclass(frozen=True)
class Candidates:
    """Candidate plans of teacher and students from the starts of S scenes, base frame [m]."""

    scenes: list[int]  # number of each scene in the evaluation, S
    obstacles: np.ndarray  # (S, K, 8), see ``tasks.obstacles``
    start: np.ndarray  # (S, 3)
    goal: np.ndarray  # (S, 3)
    paths: dict[Variant, np.ndarray]  # (S, N, H, 3), the teacher's first
    scores: dict[Variant, np.ndarray]  # (S, N), higher is better

    @classmethod
    def load(cls, path: Path, variants: Mapping[str, Variant]) -> Candidates:
        """Read ``candidates.safetensors``. variants: those to read, by their rows.

        Raises:
            CheckpointError: no such file, or a tensor is missing.
        """
        shared, of, header = read_arrays(path, variants, ("obstacles", "start", "goal"), ("paths", "scores"))
        numbers = header.get("scenes", json.dumps(list(range(len(shared["start"])))))
        scenes = decode(numbers, list[int], f"{path}, header, scenes")
        return cls(scenes, **shared, paths=of["paths"], scores=of["scores"])

    def widest(self) -> int:
        """Return the scene (an index below S) in which the teacher's candidates differ most."""
        spread = next(iter(self.paths.values())).std(1).mean((1, 2))  # (S,)
        return int(spread.argmax())


def candidates_figure(candidates: Candidates, s: int) -> Figure:
    """Return teacher and first student side by side in scene ``s``: from above, and from the side, start to goal."""
    pair = list(candidates.paths)[:2]
    start, goal = candidates.start[s], candidates.goal[s]
    along = (goal - start)[:2] / max(float(np.linalg.norm((goal - start)[:2])), 1e-9)
    axes3 = np.array([[*along, 0.0], [-along[1], along[0], 0.0], [0.0, 0.0, 1.0]])  # rows: along, left, up
    everything = np.concatenate([*(candidates.paths[v][s].reshape(-1, 3) for v in pair), start[None], goal[None]])
    seen = 100 * (everything - start) @ axes3.T  # [cm]
    low, high = seen.min(0) - 4, seen.max(0) + 4
    least = SQUAREST * (high[0] - low[0])  # labels need room where candidates differ little
    lacking = np.maximum(least - (high - low), 0)
    low, high = low - lacking / 2, high + lacking / 2
    scores = np.concatenate([candidates.scores[v][s] for v in pair])
    norm = Normalize(float(np.quantile(scores, 0.05)), float(scores.max()))
    with rc_context(STYLE):
        heights = [high[1] - low[1], high[2] - low[2]]
        width = 3.35  # of one panel [in]
        figure = Figure(figsize=(8, width * sum(heights) / (high[0] - low[0]) + 1.25), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=heights)
        for column, variant in enumerate(pair):
            paths = 100 * (candidates.paths[variant][s] - start) @ axes3.T  # (N, H, 3) [cm]
            for panel, up in ((grid[0, column], 1), (grid[1, column], 2)):
                for obstacle in candidates.obstacles[s]:
                    _draw_obstacle(panel, obstacle, start, axes3, up)
                _draw_paths(panel, paths[..., (0, up)], candidates.scores[variant][s], norm)
                way = 100 * axes3 @ (goal - start)
                mark: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none", "zorder": 6}
                panel.plot(0, 0, marker="o", color="white", markersize=7, label="start", **mark)
                panel.plot(way[0], way[up], marker="*", color="#F0E442", markersize=13, label="goal", **mark)
                panel.set_xlim(low[0], high[0])
                panel.set_ylim(low[up], high[up])
                panel.set_aspect("equal")
            grid[0, column].set_title(f"{variant.label}: {len(paths)} candidates")
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
    if kind == PILLAR and up == 1:
        panel.add_patch(Circle((middle[0], middle[up]), 100 * half[0], **look))
        return
    cos, sin = np.cos(yaw), np.sin(yaw)
    edges = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) * half[:, None]  # (3, 3): rows to the faces
    if up == 1:
        corners = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]) @ edges
        outline = middle + 100 * corners @ axes3.T
    else:
        # along the view's horizontal axis
        reach = half[0] if kind == PILLAR else np.abs(edges @ axes3[0]).sum()
        corners = np.array([[1, 0, 1], [1, 0, -1], [-1, 0, -1], [-1, 0, 1]]) * (reach, 0, half[2])
        outline = middle + 100 * corners
    panel.add_patch(Polygon(outline[:, (0, up)], closed=True, **look))
