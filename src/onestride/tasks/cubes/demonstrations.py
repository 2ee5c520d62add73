"""Demonstrations with cubes: OGBench's scripted oracles carry them one after another to where they are to go.

OGBench's own collection gives an oracle one cube and a place at a time. Here every cube of an episode has a place from
its start on, so that what is done depends on what is observed; which cube is carried next is said by ``next_move``.
The Markov oracle looks at every state. Its commands are carried out with noise, as OGBench's are, but recorded as they
were meant: from states that noise leads to, it shows the way back (Laskey et al. 2017). The other oracle follows a plan
by the clock, with correlated noise; how long it has waited is nothing that is observed. A policy that is
learnt from what cannot be observed is worse, so that data are the Markov oracle's unless both are asked for.
"""

# OGBench is optional and has no types:
# pyright: reportMissingImports=false, reportAssignmentType=false
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onestride.data.episode import Episode
from onestride.tasks.cubes.control_spec import CUBES, EDGE, NEAR, positions
from onestride.tasks.cubes.environment import make_cubes
from onestride.tasks.oracle_episodes import NOISE, NOISE_BY_ACTION, recorded
from onestride.tasks.task import Demonstrations

if TYPE_CHECKING:
    from onestride.tasks.cubes.world import CubeWorld

Oracle = Literal["markov", "plan"]
Move = tuple[int, np.ndarray]  # which cube, and the place that it is carried to (3,) [m]

VERSION = 1
EPISODES_PER_CHUNK = 20
TABLE = np.array([[0.3, -0.3], [0.55, 0.3]])  # where OGBench's collection puts cubes [m]
APART = 0.08  # starts are so far from each other, and goals, and a cube's goal from its start [m]
FREE = 0.06  # a place is taken by a cube whose centre is within this distance of it [m]
#: How often two cubes are asked for this: one stays; both go elsewhere; they change places; one goes onto the other.
SHARES = {"one": 0.2, "both": 0.3, "swap": 0.2, "stack": 0.3}
ORACLES: tuple[Oracle, ...] = ("markov",)  # in turn
OPEN, ABOVE = 0.1, 0.16  # a cube is let go of below this contact, with the gripper higher than this [m]


def chunk(name: str, seed: int, number: int, oracles: Sequence[Oracle] = ORACLES) -> tuple[list[Episode], Counter[str]]:
    """Return the successful episodes of one chunk, and counts of those that did not succeed in time.

    Args:
        name: of the task, one of ``CUBES``.
        seed: of the data set.
        number: of the chunk.
        oracles: which make the episodes, in turn. The result depends on these four alone.
    """
    world, episodes, counts = world_of(name), [], Counter({"starts": EPISODES_PER_CHUNK})
    for i in range(EPISODES_PER_CHUNK):
        oracle = oracles[i % len(oracles)]
        rng = np.random.default_rng((seed, number, i))
        starts, goals = draw_scene(world.cubes, rng)
        begun = world.reset(seed=int(rng.integers(2**31)), options={"starts": starts, "goals": goals})
        episode = demonstrate(world, oracle, begun, rng, CUBES[name].episode_steps)
        if episode.terminated:
            episodes.append(episode)
        else:
            counts[f"refused: not in place in time ({oracle})"] += 1
    return episodes, counts


def demonstrations(name: str, oracles: Sequence[Oracle] = ORACLES) -> Demonstrations:
    """Return where the demonstrations of the task ``name`` come from, by these oracles in turn."""
    made_by = {"generator": f"OGBench's oracles: {', '.join(oracles)}", "generator_version": VERSION}
    return Demonstrations(partial(chunk, name, oracles=oracles), made_by)


@cache
def world_of(name: str) -> CubeWorld:
    """Return the one of this process: it takes seconds to make, and nothing of an episode stays in it."""
    return make_cubes(name, ends_at_goal=False)


def demonstrate(
    world: CubeWorld, kind: Oracle, begun: tuple[np.ndarray, dict[str, Any]], rng: np.random.Generator, steps: int
) -> Episode:
    """Return one episode of at most ``steps`` steps; it terminated where all cubes were put in their places.

    Args:
        world: one that does not end at the goal.
        kind: of the oracle.
        begun: what its ``reset`` returned.
        rng: all that is drawn comes from it.
        steps: after which it is cut off.
    """
    noise = rng.uniform(0, NOISE) * NOISE_BY_ACTION * (kind == "markov")
    oracle, move = _oracle(world, kind), None

    def act(observation: np.ndarray, info: dict[str, Any]) -> np.ndarray | None:
        nonlocal move
        cubes, goals = positions(observation, world.cubes)
        gripper = info["proprio/effector_pos"]
        away = gripper[2] > ABOVE and info["proprio/gripper_contact"][0] < OPEN
        if move is None or oracle.done or (away and np.linalg.norm(cubes[move[0]] - move[1]) <= NEAR):
            move = next_move(cubes, goals, gripper, rng)
            if move is None:
                return None
            oracle.reset(observation, _told(info, move))
        return oracle.select_action(observation, _told(info, move))

    return recorded(world, begun, rng, noise, steps, act)


def draw_scene(cubes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where cubes are and where they are to go (cubes, 3) [m]."""
    starts = _places(cubes, rng, np.zeros((0, 3)))
    kind = rng.choice(list(SHARES), p=list(SHARES.values())) if cubes > 1 else "both"
    if kind == "swap":
        return starts, starts[::-1].copy()
    while True:
        goals = _places(cubes, rng, np.zeros((0, 3)))
        if kind == "stack":
            goals[1] = goals[0] + [0.0, 0.0, EDGE]
        elif kind == "one":
            goals[0] = starts[0]
        moved = np.linalg.norm(goals - starts, axis=1) >= APART
        moved[0] |= kind == "one"
        if moved.all() and (kind == "stack" or _apart(goals)):
            return starts, goals


def next_move(cubes: np.ndarray, goals: np.ndarray, gripper: np.ndarray, rng: np.random.Generator) -> Move | None:
    """Return which cube to carry next, and to where; None where all are in their places.

    Of the cubes that can go, the nearest to the gripper. A cube cannot go from under another, to a place that another
    takes, or onto one that is not in its place. Where none can, one goes aside to a free place that is drawn.

    Args:
        cubes: where they are (n, 3) [m].
        goals: where they are to go (n, 3) [m].
        gripper: where it is (3,) [m].
        rng: draws the place aside.
    """
    left = np.flatnonzero(np.linalg.norm(cubes - goals, axis=1) > NEAR)
    by_distance = [int(i) for i in left[np.linalg.norm(cubes[left] - gripper, axis=1).argsort()]]
    others = {i: [j for j in range(len(cubes)) if j != i] for i in range(len(cubes))}
    loose = [
        i for i in range(len(cubes)) if not any(_over(cubes[j], cubes[i]) for j in others[i])
    ]  # nothing stands on it
    for i in by_distance:
        waits = any(
            (_over(goals[i], goals[j]) and j in left) or (_beside(cubes[j], goals[i]) and not _over(goals[i], cubes[j]))
            for j in others[i]
        )
        if i in loose and not waits:
            return i, goals[i]
    if not by_distance:
        return None
    aside = next((i for i in by_distance if i in loose), loose[0])
    return aside, _places(1, rng, np.concatenate((cubes, goals)))[0]


def _beside(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two places (3,) are too near to each other in the plane for two cubes."""
    return bool(np.hypot(*(a - b)[:2]) < FREE)


def _over(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether ``a`` is one cube higher than ``b``, or more, above the same place."""
    return bool(a[2] - b[2] > EDGE / 2 and np.hypot(*(a - b)[:2]) < EDGE)


def _places(count: int, rng: np.random.Generator, taken: np.ndarray) -> np.ndarray:
    """Return places on the table (count, 3) that are apart from each other and from those that are taken [m]."""
    while True:
        places = np.column_stack((rng.uniform(TABLE[0], TABLE[1], (count, 2)), np.full(count, EDGE / 2)))
        if _apart(places) and all(np.hypot(*(p - t)[:2]) >= APART for p in places for t in taken):
            return places


def _apart(places: np.ndarray) -> bool:
    return all(np.hypot(*(a - b)[:2]) >= APART for a, b in combinations(places, 2))


# ---- OGBench's oracles ----


def _oracle(world: CubeWorld, kind: Oracle) -> Any:
    if kind == "markov":
        from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

        return CubeMarkovOracle(env=world)
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    return CubePlanOracle(env=world)


def _told(info: dict[str, Any], move: Move) -> dict[str, Any]:
    """Return what an oracle is told: the state, which cube, and where it is to go, turned like OGBench's goals."""
    which, place = move
    target = {"target_block": which, "target_block_pos": place, "target_block_yaw": np.zeros(1)}
    return info | {f"privileged/{name}": value for name, value in target.items()}
