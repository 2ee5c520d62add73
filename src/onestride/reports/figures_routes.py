"""Candidates of a maze as ways through it: where they lead before anybody ranks them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onestride.evaluation.variant import Variant
from onestride.reports.style import CHOSEN, OBSTACLE, STYLE, colour
from onestride.tasks.mazes.maps import MAZES, Maze
from onestride.tasks.mazes.routes import way_taken

#: Of a candidate's way: the shortest, the next ones, none that is short (it may cross a wall).
WAYS, ASTRAY = ("#0072B2", "#E69F00", "#009E73", "#CC79A7"), "#C0C4CA"


def routes_figure(name: str, plans: Mapping[Variant, np.ndarray], most: int = 3) -> Figure:
    """Return whole candidates drawn into their maze: a column per planner, a line per state.

    A candidate has the colour of the short way that it takes. States with several short ways come first.

    Args:
        name: of the maze's task.
        plans: by planner, positions (S, N, H, 2) of the same S states [m]; plans begin and end where it is given.
        most: states that are shown.
    """
    maze = MAZES[name]
    first = next(iter(plans.values()))
    several = np.array([way_taken(name, paths[0])[0] for paths in first])
    shown = np.argsort(-several, kind="stable")[:most]
    with rc_context(STYLE):
        high = 8 / len(plans) * maze.walls.shape[0] / maze.walls.shape[1]
        figure = Figure(figsize=(8, high * len(shown) + 0.7), layout="constrained")
        grid = figure.subplots(len(shown), len(plans), squeeze=False)
        taken = 0
        for panels, state in zip(grid, shown, strict=True):
            for panel, paths in zip(panels, plans.values(), strict=True):
                _walls(panel, maze)
                taken = max(taken, _candidates(panel, name, paths[state]))
        for panel, variant in zip(grid[0], plans, strict=True):
            panel.set_title(variant.label, color=colour(variant.method))
        said = ["the shortest way", *(f"other way {n}" if taken > 2 else "the other way" for n in range(1, taken))]
        handles = [Line2D([], [], color=shade, label=text) for shade, text in zip(WAYS, said, strict=False)]
        handles.append(Line2D([], [], color=ASTRAY, label="no short way, or into a wall"))
        handles.append(Line2D([], [], color=CHOSEN, marker="o", linestyle="none", label="start"))
        handles.append(Line2D([], [], color=CHOSEN, marker="*", markersize=9, linestyle="none", label="goal"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _walls(panel: Axes, maze: Maze) -> None:
    rows, columns = maze.walls.shape
    right, top = maze.body.cell_size * columns / 2, maze.body.cell_size * rows / 2
    panel.imshow(
        np.where(maze.walls[..., None], np.array([*_rgb(OBSTACLE)]), 1.0),
        extent=(-right, right, -top, top),
        interpolation="none",
    )
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set_visible(False)


def _candidates(panel: Axes, name: str, paths: np.ndarray) -> int:
    """Draw candidates (N, H, 2) of one state; return how many ways they may take."""
    count = 1
    for path in paths:
        count, way = way_taken(name, path)
        shade = ASTRAY if way is None or _hits(MAZES[name], path) else WAYS[way % len(WAYS)]
        panel.plot(*path.T, color=shade, linewidth=0.7, alpha=0.45, solid_capstyle="round")
    panel.plot(*paths[0, 0], "o", color=CHOSEN, markersize=5, zorder=4)
    panel.plot(*paths[0, -1], "*", color=CHOSEN, markersize=9, zorder=4)
    return count


def _hits(maze: Maze, path: np.ndarray) -> bool:
    """Return whether a path (H, 2) lies in a wall or outside anywhere."""
    rows, columns = maze.walls.shape
    cells = np.array([maze.cell(position) for position in path])
    inside = ((cells >= 0) & (cells < (rows, columns))).all(1)
    return not inside.all() or bool(maze.walls[tuple(cells.T)].any())


def _rgb(shade: str) -> tuple[float, ...]:
    return tuple(int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5))
