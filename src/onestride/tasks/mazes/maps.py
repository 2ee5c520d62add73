"""The mazes: where their walls are, which body is in them, and how long its episodes are. NumPy alone.

An observation begins with the body's position and ends with its goal's [m]; between them is the rest of its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

GOAL_RADIUS = 0.45  # within which the environments count a goal as reached [m]

Cell = tuple[int, int]  # row, column

#: Gymnasium-Robotics' mazes, rows from the top: # is a wall.
U = "##### #...# ###.# #...# #####"
MEDIUM = "######## #..##..# #..#...# ##...### #..#...# #.#..#.# #...#..# ########"
LARGE = (
    "############ #....#.....# #.##.#.#.#.# #......#...# #.####.###.# #..#.#.....# ##.#.#.#.### #..#...#...# "
    "############"
)


@dataclass(frozen=True)
class Body:
    """What moves in a maze.

    Attributes:
        environment: Gymnasium-Robotics' id, with {} for the maze's size.
        cell_size: width of a cell [m].
        state_dim: O, numbers of its state, of which the first two are its position.
        action_dim: A.
        control_dt: control period [s].
        layout: the numbers of an observation.
    """

    environment: str
    cell_size: float
    state_dim: int
    action_dim: int
    control_dt: float
    layout: str

    @property
    def observation_dim(self) -> int:
        """Numbers of an observation: the state and the goal."""
        return self.state_dim + 2


POINT = Body("PointMaze_{}-v3", 1.0, 4, 2, 0.01, "x, y [m], vx, vy [m/s], goal x, goal y [m]")
ANT = Body(
    "AntMaze_{}-v5", 4.0, 29, 8, 0.05,
    "x, y, torso height [m], quaternion wxyz, 8 joint angles [rad], 6 velocities of the torso [m/s, rad/s], 8 of the "
    "joints [rad/s], goal x, goal y [m]",
)  # fmt: skip


@dataclass(frozen=True)
class Maze:
    """One body in one maze.

    Attributes:
        name: of the task.
        body: what moves in it.
        size: as the environment's id has it.
        drawn: rows of the maze, a space between them.
        episode_steps: after how many steps an episode is cut off.
        horizon: H, rows of a plan.
        longest_detour: steps from cell to cell that a way may have if it is not the shortest.
    """

    name: str
    body: Body
    size: str
    drawn: str
    episode_steps: int
    horizon: int
    longest_detour: int

    @property
    def environment(self) -> str:
        """Gymnasium-Robotics' id."""
        return self.body.environment.format(self.size)

    @cached_property
    def walls(self) -> np.ndarray:
        """Which cells are walls (rows, columns), bool."""
        return np.array([[cell == "#" for cell in row] for row in self.drawn.split()])

    def centre(self, cell: Cell) -> np.ndarray:
        """Return the centre of a cell [m]. The origin is the middle of the maze, y points up the rows."""
        rows, columns = self.walls.shape
        return self.body.cell_size * np.array([cell[1] + 0.5 - columns / 2, rows / 2 - cell[0] - 0.5])

    def cell(self, position: np.ndarray) -> Cell:
        """Return the cell that a position [m] lies in, which may be outside of the maze."""
        rows, columns = self.walls.shape
        x, y = float(position[0]) / self.body.cell_size, float(position[1]) / self.body.cell_size
        return int(np.floor(rows / 2 - y)), int(np.floor(x + columns / 2))

    def check_cell(self, what: str, cell: Cell) -> None:
        """Raise ValueError where a cell is a wall or outside of the maze; ``what`` is called so in the message."""
        rows, columns = self.walls.shape
        inside = 0 <= cell[0] < rows and 0 <= cell[1] < columns
        if not inside or self.walls[cell]:
            free = tuple(int(i) for i in np.argwhere(~self.walls)[0])
            x, y = self.centre((free[0], free[1]))
            raise ValueError(
                f"the {what} is {'in a wall' if inside else 'outside'} of {self.name}, row {cell[0]}, column {cell[1]} "
                f"of {rows} x {columns} cells; choose a free cell, such as {free}, which is ({x:g}, {y:g}) m"
            )

    def check_goal(self, goal: np.ndarray) -> None:
        """Raise ValueError where a goal [m] lies in a wall or outside of the maze."""
        self.check_cell(f"goal ({goal[0]:g}, {goal[1]:g}) m", self.cell(goal))


#: By the names of their tasks.
MAZES = {
    maze.name: maze
    for maze in (
        Maze("pointmaze-umaze", POINT, "UMaze", U, 300, 128, 0),
        Maze("pointmaze-medium", POINT, "Medium", MEDIUM, 600, 256, 10),
        Maze("pointmaze-large", POINT, "Large", LARGE, 800, 384, 16),
        Maze("antmaze-umaze", ANT, "UMaze", U, 700, 32, 0),
        Maze("antmaze-medium", ANT, "Medium", MEDIUM, 1000, 32, 10),
        Maze("antmaze-large", ANT, "Large", LARGE, 1000, 32, 16),
    )
}


def goal_reached(observation: np.ndarray) -> bool:
    """Return whether the body is within ``GOAL_RADIUS`` of its goal."""
    return bool(np.hypot(*(observation[:2] - observation[-2:])) <= GOAL_RADIUS)
