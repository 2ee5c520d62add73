"""Demonstrations in the mazes: along one of the short ways to the goal, the longer ones less often.

The point follows the centres of the route's cells by a PD controller with noise on its commands. The ant is walked by
an actor that the user gives, from one cell to the next, to centres with noise. Both as in D4RL (Fu et al. 2020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

import numpy as np

from onestride.data.actors import Behaviour
from onestride.data.collect import Source
from onestride.data.episode import Episode
from onestride.tasks.mazes.environment import FlatMaze
from onestride.tasks.mazes.maps import ANT, MAZES, goal_reached
from onestride.tasks.mazes.routes import MOVES, Route, routes, way_taken
from onestride.tasks.task import Demonstrations, NeedsActor

VERSION = 2
EPISODES_PER_CHUNK = 50
HALVED = 4  # cells that a way is longer than the shortest, by which it is half as likely
# The point:
STIFFNESS, DAMPING, NOISE = 10.0, 1.0, 0.5  # of the command: per [m], per [m/s], standard deviation
PASSED = 0.3  # a cell counts as visited within this distance of its centre [m]
SETTLED, SLOW = 0.1, 0.3  # an episode ends this near its goal [m] and no faster than this [m/s]
# The ant:
TORQUE = 0.2  # of the actor's action, which was trained on joints with a fifth of these gears
DIRECTION = 10.0  # length of the vector to the waypoint that the actor is given
WAYPOINT_NOISE = 0.5  # of a waypoint about its cell's centre, at most, in x and y [m]

#: Demonstrates in an environment, from a seed, for at most so many steps.
Demonstrator = Callable[[FlatMaze, int, int], Episode]


def chunk(demonstrator: Demonstrator, name: str, seed: int, number: int) -> tuple[list[Episode], Counter[str]]:
    """Return the episodes of one chunk of starts and goals, and counts of the ways that they took.

    Args:
        demonstrator: ``demonstrate_point``, or ``demonstrate_ant`` with its actor.
        name: of the task, one of ``MAZES``.
        seed: of the data set.
        number: of the chunk. The result depends on these alone.
    """
    maze = MAZES[name]
    episodes, counts = [], Counter({"starts": EPISODES_PER_CHUNK})
    with closing(FlatMaze(name, ends_at_goal=maze.body is ANT)) as environment:  # a point goes on until it is at rest
        for start in np.random.default_rng((seed, number)).integers(2**31, size=EPISODES_PER_CHUNK):
            episode = demonstrator(environment, int(start), maze.episode_steps)
            if episode.terminated:
                episodes.append(episode)
                counts[said_of_way(name, episode)] += 1
            else:
                counts["refused: the goal was not reached in time"] += 1
    return episodes, counts


def said_of_way(name: str, episode: Episode) -> str:
    """Return which of how many ways an episode took, and how much longer than the shortest the second one is."""
    path = np.concatenate((episode.observations[:, :2], episode.observations[-1:, -2:]))
    count, way = way_taken(name, path)
    if count == 1:
        return "one way"
    ways = routes(name, MAZES[name].cell(path[0]), MAZES[name].cell(path[-1]))
    took = "none of them" if way is None else "the shortest" if way == 0 else "another"
    return f"{count} ways, the second {len(ways[1]) - len(ways[0])} cells longer: took {took}"


def drawn_route(name: str, observation: np.ndarray, rng: np.random.Generator) -> Route:
    """Return a route from the body to its goal: a short way, half as likely for every ``HALVED`` cells more."""
    maze = MAZES[name]
    found = routes(name, maze.cell(observation[:2]), maze.cell(observation[-2:]), int(rng.integers(len(MOVES))))
    likely = np.array([0.5 ** ((len(route) - len(found[0])) / HALVED) for route in found])
    return found[rng.choice(len(found), p=likely / likely.sum())]


def demonstrate_point(environment: FlatMaze, seed: int, steps: int) -> Episode:
    """Return one episode of at most ``steps`` steps; it terminated where the point came to rest at its goal.

    Args:
        environment: a point maze. If it ends at its goal, so does the episode.
        seed: of the start, the goal, the way and the commands' noise.
        steps: after which it is cut off.
    """
    rng = np.random.default_rng(seed)
    observation, _ = environment.reset(seed=seed)
    goal = observation[-2:]
    route = drawn_route(environment.name, observation, rng)
    way = [*map(environment.map.centre, route[1:-1]), goal]

    def act(observation: np.ndarray) -> np.ndarray:
        position, velocity = observation[:2], observation[2:4]
        while len(way) > 1 and np.hypot(*(way[0] - position)) < PASSED:
            way.pop(0)
        return STIFFNESS * (way[0] - position) - DAMPING * velocity + NOISE * rng.standard_normal(2)

    def settled(observation: np.ndarray) -> bool:
        near = np.hypot(*(observation[:2] - goal)) < SETTLED
        return bool(near and np.hypot(*observation[2:4]) < SLOW and goal_reached(observation))

    return _rolled(environment, observation, act, settled, steps)


def demonstrate_ant(actor: Behaviour, environment: FlatMaze, seed: int, steps: int) -> Episode:
    """Return one episode of at most ``steps`` steps; it terminated where the ant reached its goal.

    Args:
        actor: maps [torso height, quaternion, joints, velocities, vector to the waypoint] (29,) to joint torques.
        environment: an ant maze that ends at its goal.
        seed: of the start, the goal, the way and all noise.
        steps: after which it is cut off.
    """
    rng = np.random.default_rng(seed)
    observation, _ = environment.reset(seed=seed)
    name, maze = environment.name, environment.map
    route, at = drawn_route(name, observation, rng), 0
    noise = rng.uniform(-WAYPOINT_NOISE, WAYPOINT_NOISE, (*maze.walls.shape, 2))

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal route, at
        cell = maze.cell(observation[:2])
        if not maze.walls[cell]:
            if cell not in route:  # it left its way
                route = routes(name, cell, route[-1])[0]
            at = route.index(cell)
        following = route[min(at + 1, len(route) - 1)]
        waypoint = observation[-2:] if following == route[-1] else maze.centre(following) + noise[following]
        towards = waypoint - observation[:2]
        towards = DIRECTION * towards / max(float(np.hypot(*towards)), 1e-6)
        return TORQUE * actor.act(np.concatenate((observation[2:-2], towards))[None], [rng])[0]

    return _rolled(environment, observation, act, goal_reached, steps)


def _rolled(
    environment: FlatMaze,
    observation: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    done: Callable[[np.ndarray], bool],
    steps: int,
) -> Episode:
    """Return the episode that goes on from an observation until it is done, ends, or is cut off after ``steps``."""
    observations, actions, rewards, ended = [observation], [], [], False
    while not ended and len(actions) < steps:
        action = act(observation).clip(-1, 1).astype(np.float32)
        observation, reward, terminated, *_ = environment.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        ended = terminated or done(observation)
    return Episode(
        np.stack(observations).astype(np.float32), np.stack(actions), np.array(rewards, np.float32),
        terminated=ended, truncated=not ended,
    )  # fmt: skip


def reference(demonstrator: Demonstrator, name: str, seeds: Iterable[int]) -> Iterator[Episode]:
    """Yield the demonstrator's episodes from evaluations' starts: each ends at its goal, or when time is up."""
    with closing(FlatMaze(name)) as environment:
        for seed in seeds:
            yield demonstrator(environment, seed, MAZES[name].episode_steps)


def point_demonstrations(name: str) -> Demonstrations:
    """Return where the demonstrations of a point maze come from."""
    return _demonstrations(name, demonstrate_point, {"generator": "PD along a short way"})


def ant_demonstrations(name: str) -> NeedsActor:
    """Return where the demonstrations of an ant maze come from, once there is an actor."""
    return NeedsActor(
        what="walks an ant to a waypoint: D4RL's, as an .npz",
        observation_dim=ANT.state_dim,  # 27 numbers without the position, and 2 of the vector to the waypoint
        action_dim=ANT.action_dim,
        demonstrations=lambda actor: _demonstrations(
            name, partial(demonstrate_ant, actor), {"generator": "an actor walks along a short way"}
        ),
    )


def _demonstrations(name: str, demonstrator: Demonstrator, made_by: dict[str, str]) -> Demonstrations:
    source: Source = partial(chunk, demonstrator, name)
    return Demonstrations(source, {**made_by, "generator_version": VERSION}, partial(reference, demonstrator, name))


def route_shares(name: str, episodes: Sequence[Episode]) -> dict[str, int]:
    """Return how many episodes took which way, as the counts of a data set say it."""
    return dict(Counter(said_of_way(name, episode) for episode in episodes))
