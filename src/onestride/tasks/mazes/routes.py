"""Ways through a maze: the short ones that pass its inner walls on other sides, and which of them a path took.

Two ways are the same where one can be bent into the other without crossing a wall. The angles by which they turn about
each inner island of walls tell them apart: between the same two places, other ways differ by whole turns.
"""

from __future__ import annotations

from collections import deque
from functools import cache

import numpy as np

from onestride.tasks.mazes.maps import MAZES, Cell

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
LONGER = 1.5  # a way longer than this times the shortest is none that anybody would take

Route = tuple[Cell, ...]


def islands(walls: np.ndarray) -> list[Cell]:
    """Return a cell of every island of walls that does not hang together with the outermost ones.

    Args:
        walls: which cells (rows, columns) are walls. The outermost are. Those that touch at a corner hang together.
    """
    found: list[Cell] = []
    seen = np.zeros_like(walls)
    for i, j in np.argwhere(walls).tolist():  # the first is in the outermost walls
        first = i, j
        if seen[first]:
            continue
        if first != (0, 0):
            found.append(first)
        queue = deque([first])
        seen[first] = True
        while queue:
            row, column = queue.popleft()
            for cell in ((row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)):
                inside = min(cell) >= 0 and cell[0] < walls.shape[0] and cell[1] < walls.shape[1]
                if inside and walls[cell] and not seen[cell]:
                    seen[cell] = True
                    queue.append(cell)
    return found


def turns(path: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the angle by which a path (T, 2) turns about each of the centres (n, 2) [rad], positive to the left."""
    relative = path[:, None] - centres
    steps = np.diff(np.arctan2(relative[..., 1], relative[..., 0]), axis=0)
    return ((steps + np.pi) % (2 * np.pi) - np.pi).sum(0)


def routes(name: str, start: Cell, goal: Cell, first: int = 0) -> tuple[Route, ...]:
    """Return the shortest route of every short way between two free cells, both included, the shortest first.

    Short is the shortest way, and what is at most ``LONGER`` times as long and no longer than the maze's
    ``longest_detour``. No route visits a cell twice.

    Args:
        name: of the maze.
        start: (row, column).
        goal: (row, column).
        first: which of the four directions is tried first: among routes of one way and length it decides.

    Raises:
        ValueError: no way leads there.
    """
    return _routes(name, start, goal, first % len(MOVES))


@cache
def _routes(name: str, start: Cell, goal: Cell, first: int) -> tuple[Route, ...]:
    return ways_between(MAZES[name].walls, start, goal, MAZES[name].longest_detour, first)


def ways_between(walls: np.ndarray, start: Cell, goal: Cell, detour: int, first: int = 0) -> tuple[Route, ...]:
    """Return what ``routes`` does, for walls (rows, columns): breadth first over cells and turns about islands."""
    centres = [(float(row), float(column)) for row, column in islands(walls)]
    moves = MOVES[first:] + MOVES[:first]
    still: tuple[int, ...] = (0,) * len(centres)
    found: list[Route] = []
    seen: set[tuple[Cell, tuple[int, ...]]] = {(start, still)}
    queue: deque[tuple[Route, tuple[int, ...]]] = deque([((start,), still)])
    while queue:
        route, crossed = queue.popleft()
        if found and len(route) - 1 > min(LONGER * (len(found[0]) - 1), detour):
            break
        if route[-1] == goal:
            found.append(route)
            continue
        for row, column in moves:
            cell = route[-1][0] + row, route[-1][1] + column
            if walls[cell] or cell in route:
                continue
            state = cell, tuple(n + _crossing(route[-1], cell, c) for n, c in zip(crossed, centres, strict=True))
            if state not in seen:
                seen.add(state)
                queue.append(((*route, cell), state[1]))
    if not found:
        raise ValueError(f"no way leads from cell {start} to cell {goal} of this maze")
    return tuple(found)


def _crossing(before: Cell, after: Cell, centre: tuple[float, float]) -> int:
    """Return 1 or -1 where a step crosses the line that runs from an island's cell through all columns left of it."""
    row = centre[0] + 0.5  # the line lies at the lower edge of the cell's row, where no centre of a cell is
    if before[1] != after[1] or before[1] > centre[1]:
        return 0
    return int(before[0] < row < after[0]) - int(after[0] < row < before[0])


def way_taken(name: str, path: np.ndarray) -> tuple[int, int | None]:
    """Return how many short ways lead from a path's first to its last position, and the number of the one it took.

    Args:
        name: of the maze.
        path: positions (T, 2) [m], the last one where it was to go.

    Returns:
        The count, and 0 for the shortest way, 1 for the next; None where the path took none of them.
    """
    maze = MAZES[name]
    centres = np.array([maze.centre(cell) for cell in islands(maze.walls)]).reshape(-1, 2)
    ways = routes(name, maze.cell(path[0]), maze.cell(path[-1]))
    turned = turns(path, centres)
    for number, route in enumerate(ways):
        drawn = np.array([path[0], *map(maze.centre, route[1:-1]), path[-1]])
        if (np.abs(turns(drawn, centres) - turned) < np.pi).all():
            return len(ways), number
    return len(ways), None
