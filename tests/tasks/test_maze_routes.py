"""Ways through a maze: the shortest, the others, and which of them a path took."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.data.episode import Episode
from onestride.tasks.mazes.demonstrations import HALVED, drawn_route, route_shares
from onestride.tasks.mazes.maps import MAZES
from onestride.tasks.mazes.routes import islands, routes, turns, way_taken, ways_between
from onestride.tasks.mazes.task import measure_episode

MEDIUM = MAZES["pointmaze-medium"]
LEFT, RIGHT = (6, 1), (3, 4)  # cells of the medium maze with its island between them


def distances(walls, goal):
    """Steps from every free cell to the goal, by relaxing until nothing changes."""
    steps = np.full(walls.shape, np.inf)
    steps[goal] = 0
    for _ in range(walls.size):
        near = np.min([np.roll(steps, shift, axis) for axis in (0, 1) for shift in (-1, 1)], 0) + 1
        steps = np.where(walls, np.inf, np.minimum(steps, near))
    return steps


def test_no_way_is_shorter_than_the_first_and_the_others_are_other_ways():
    rng, longest, several = np.random.default_rng(0), 0, 0
    for number in range(24):
        walls = rng.random((7, 8)) < 0.35
        walls[[0, -1]] = walls[:, [0, -1]] = True
        free = [tuple(map(int, cell)) for cell in np.argwhere(~walls)]
        centres = np.array(islands(walls), float).reshape(-1, 2)
        goal = free[rng.integers(len(free))]
        steps = distances(walls, goal)
        for start in free:
            if np.isinf(steps[start]):
                with pytest.raises(ValueError, match="no way leads from cell"):
                    ways_between(walls, start, goal, 12)
                continue
            found = ways_between(walls, start, goal, 12, number)
            assert len(found[0]) - 1 == steps[start]
            for route in found:
                assert (route[0], route[-1]) == (start, goal)
                assert len(set(route)) == len(route) <= 1 + max(steps[start], min(1.5 * steps[start], 12))
                assert not any(walls[cell] for cell in route)
                assert (np.abs(np.diff(route, axis=0)).sum(1) == 1).all() or len(route) == 1
            angles = np.array([turns(np.array(route, float), centres) for route in found])
            apart = np.abs(angles[:, None] - angles[None]).max(-1, initial=0)
            assert (apart[~np.eye(len(found), dtype=bool)] > np.pi).all()
            longest, several = max(longest, len(found[0])), several + (len(found) > 1)
    assert longest > 8
    assert several > 15


def test_an_island_is_what_can_be_gone_round():
    walls = [islands(MAZES[f"pointmaze-{size}"].walls) for size in ("umaze", "medium", "large")]
    assert walls == [[], [(4, 3)], [(2, 2), (2, 7), (2, 9)]]


def test_a_turn_about_a_point_is_its_angle():
    corners = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    found = turns(corners, np.array([[0.0, 0.0], [5.0, 0.0]]))
    np.testing.assert_allclose(found, [2 * np.pi, 0.0], atol=1e-12)
    np.testing.assert_allclose(turns(corners[::-1], np.zeros((1, 2))), [-2 * np.pi])


def wobbled(route, seed):
    """Positions along a route, as a body that is never quite in the middle has them."""
    corners = np.array([MEDIUM.centre(cell) for cell in route])
    at = np.linspace(0, len(corners) - 1, 12 * len(corners))
    path = np.stack([np.interp(at, np.arange(len(corners)), column) for column in corners.T], 1)
    return path + np.random.default_rng(seed).uniform(-0.2, 0.2, path.shape)


def test_a_path_is_known_by_the_side_on_which_it_passed():
    found = routes(MEDIUM.name, LEFT, RIGHT)
    assert len(found) == 2
    for number, route in enumerate(found):
        for seed in range(5):
            assert way_taken(MEDIUM.name, wobbled(route, seed)) == (2, number)
    once_round = [*found[0], *found[1][-2::-1], *found[0][1:]]
    assert way_taken(MEDIUM.name, wobbled(once_round, 0)) == (2, None)
    assert way_taken(MEDIUM.name, wobbled(found[0][:2], 0)) == (1, 0)


def episode_along(route, arrives):
    path = wobbled(route, 0)
    goal = path[-1] if arrives else MEDIUM.centre((1, 6))
    observations = np.concatenate((path, np.zeros_like(path), np.tile(goal, (len(path), 1))), 1)
    steps = len(path) - 1
    return Episode(observations, np.zeros((steps, 2)), np.zeros(steps), terminated=arrives, truncated=not arrives)


def test_an_episode_is_measured_by_its_way():
    first, second = routes(MEDIUM.name, LEFT, RIGHT)
    taken = [episode_along(route, arrives=True) for route in (first, second, first)]
    assert [measure_episode(MEDIUM.name, e)["other_way"] for e in taken] == [0.0, 1.0, 0.0]
    assert measure_episode(MEDIUM.name, taken[1]) == {
        "success": 1.0, "steps_to_goal": float(len(taken[1])), "ways": 2.0, "way": 1, "other_way": 1.0,
    }  # fmt: skip
    alone = measure_episode(MEDIUM.name, episode_along(first[:2], arrives=True))
    assert (alone["way"], alone["other_way"]) == (0, None)  # there is no other
    lost = measure_episode(MEDIUM.name, episode_along(first, arrives=False))
    assert (lost["success"], lost["steps_to_goal"], lost["way"], lost["other_way"]) == (0.0, None, None, None)
    said = "2 ways, the second 0 cells longer: took "
    assert route_shares(MEDIUM.name, taken) == {said + "the shortest": 2, said + "another": 1}


def test_a_way_four_cells_longer_is_drawn_half_as_often():
    rng, maze = np.random.default_rng(0), MAZES["pointmaze-large"]
    free = [tuple(map(int, cell)) for cell in np.argwhere(~maze.walls)]
    start, goal = next(
        (a, b)
        for a in free
        for b in free
        if len(found := routes(maze.name, a, b)) == 2 and len(found[1]) - len(found[0]) == HALVED
    )
    observation = np.concatenate((maze.centre(start), np.zeros(2), maze.centre(goal)))
    shortest = len(routes(maze.name, start, goal)[0])
    share = np.mean([len(drawn_route(maze.name, observation, rng)) > shortest for _ in range(3000)])
    assert share == pytest.approx(1 / 3, abs=0.035)  # four standard deviations
