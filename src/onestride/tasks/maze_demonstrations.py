"""Demonstrations in the point mazes: the shortest way through the cells, followed by a PD controller with noise."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from functools import partial

import numpy as np

from onestride.data.episode import Episode
from onestride.tasks.maze_control_spec import MAZES, goal_reached
from onestride.tasks.maze_environment import FlatMaze
from onestride.tasks.task import Demonstrations

VERSION = 1
EPISODES_PER_CHUNK = 50
STIFFNESS, DAMPING, NOISE = 10.0, 1.0, 0.1  # of the command: per [m], per [m/s], standard deviation
PASSED = 0.3  # a cell counts as visited within this distance of its centre [m]
SETTLED, SLOW = 0.1, 0.3  # an episode ends this near its goal [m] and no faster than this [m/s]

Cell = tuple[int, int]


def chunk(name: str, seed: int, number: int) -> tuple[list[Episode], Counter[str]]:
    """Return the episodes of one chunk of starts and goals, and how many did not settle at their goal in time.

    Args:
        name: of the task, one of ``MAZES``.
        seed: of the data set.
        number: of the chunk. The result depends on these three alone.
    """
    environment = FlatMaze(MAZES[name].environment, ends_at_goal=False)
    episodes, counts = [], Counter({"starts": EPISODES_PER_CHUNK})
    for start in np.random.default_rng((seed, number)).integers(2**31, size=EPISODES_PER_CHUNK):
        episode = demonstrate(environment, int(start), MAZES[name].horizon)
        if episode.terminated:
            episodes.append(episode)
        else:
            counts["refused: not at rest at the goal within the horizon"] += 1
    environment.close()
    return episodes, counts


def demonstrations(name: str) -> Demonstrations:
    """Return where the demonstrations of the task ``name`` come from."""
    made_by = {"generator": "PD along the shortest way", "generator_version": VERSION}
    return Demonstrations(partial(chunk, name), made_by)


def demonstrate(environment: FlatMaze, seed: int, steps: int) -> Episode:
    """Return one episode of at most ``steps`` steps; it terminated where the point came to rest at its goal.

    Args:
        environment: a maze that does not end at its goal.
        seed: of the start, the goal and the commands' noise.
        steps: after which it is cut off.
    """
    rng = np.random.default_rng(seed)
    observation, _ = environment.reset(seed=seed)
    goal = observation[4:]
    cells = shortest_way(environment.walls, environment.cell(observation[:2]), environment.cell(goal))
    way = [*map(environment.centre, cells[1:-1]), goal]
    observations, actions, rewards, settled = [observation], [], [], False
    while not settled and len(actions) < steps:
        position, velocity = observation[:2], observation[2:4]
        while len(way) > 1 and np.hypot(*(way[0] - position)) < PASSED:
            way.pop(0)
        wanted = STIFFNESS * (way[0] - position) - DAMPING * velocity + NOISE * rng.standard_normal(2)
        action = wanted.clip(-1, 1).astype(np.float32)
        observation, reward, *_ = environment.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        near = np.hypot(*(observation[:2] - goal)) < SETTLED
        settled = bool(near and np.hypot(*observation[2:4]) < SLOW and goal_reached(observation))
    return Episode(
        np.stack(observations).astype(np.float32), np.stack(actions), np.array(rewards, np.float32),
        terminated=settled, truncated=not settled,
    )  # fmt: skip


def shortest_way(walls: np.ndarray, start: Cell, goal: Cell) -> Sequence[Cell]:
    """Return the cells of a shortest way between two free cells, both included, by breadth-first search.

    Args:
        walls: which cells (rows, columns) are walls. The outermost are.
        start: (row, column).
        goal: (row, column).

    Raises:
        ValueError: no way leads there.
    """
    before: dict[Cell, Cell | None] = {goal: None}
    queue = deque([goal])
    while queue and start not in before:
        row, column = queue.popleft()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if not walls[cell] and cell not in before:
                before[cell] = (row, column)
                queue.append(cell)
    if start not in before:
        raise ValueError(f"no way leads from cell {start} to cell {goal} of this maze")
    way, cell = [], start
    while cell is not None:
        way.append(cell)
        cell = before[cell]
    return way
