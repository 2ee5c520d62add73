"""Demonstrations in the scene: OGBench's scripted Markov oracles do one thing after another, until all is done.

What is done next depends on what is observed alone (``next_move``). As of the cubes, commands are carried out with
noise and recorded as they were meant.
"""

# OGBench is optional and has no types:
# pyright: reportMissingImports=false
from __future__ import annotations

from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from onestride.data.episode import Episode
from onestride.tasks.oracle_episodes import NOISE, NOISE_BY_ACTION, recorded
from onestride.tasks.scenes.control_spec import SCENES, Setting, settings
from onestride.tasks.scenes.environment import make_scene
from onestride.tasks.task import Demonstrations

if TYPE_CHECKING:
    from onestride.tasks.scenes.world import SceneWorld

VERSION = 1
EPISODES_PER_CHUNK = 20
THERE = 0.01  # the oracles bring drawer and window so near to where they are to be [m]
ABOVE = {"drawer": 0.18, "window": 0.28, "button": 0.16}  # the gripper goes so high before anything else is done [m]


def chunk(name: str, seed: int, number: int) -> tuple[list[Episode], Counter[str]]:
    """Return the successful episodes of one chunk, and counts of those that did not succeed in time.

    Args:
        name: of the task, one of ``SCENES``.
        seed: of the data set.
        number: of the chunk. The result depends on these three alone.
    """
    world, episodes, counts = world_of(name), [], Counter({"starts": EPISODES_PER_CHUNK})
    for i in range(EPISODES_PER_CHUNK):
        rng = np.random.default_rng((seed, number, i))
        begun = world.reset(seed=int(rng.integers(2**31, 2**32)))  # no evaluation begins there
        episode = demonstrate(world, begun, rng, SCENES[name].episode_steps)
        if episode.terminated:
            episodes.append(episode)
        else:
            counts["refused: not as asked for in time"] += 1
    return episodes, counts


def demonstrations(name: str) -> Demonstrations:
    """Return where the demonstrations of the task ``name`` come from."""
    return Demonstrations(
        partial(chunk, name), {"generator": "OGBench's oracles: markov", "generator_version": VERSION}
    )


@cache
def world_of(name: str) -> SceneWorld:
    """Return the one of this process: it takes seconds to make, and nothing of an episode stays in it."""
    return make_scene(name, ends_at_goal=False)


def demonstrate(
    world: SceneWorld, begun: tuple[np.ndarray, dict[str, Any]], rng: np.random.Generator, steps: int
) -> Episode:
    """Return one episode of at most ``steps`` steps; it terminated where all was as asked for.

    Args:
        world: one that does not end at the goal.
        begun: what its ``reset`` returned.
        rng: all that is drawn comes from it.
        steps: after which it is cut off.
    """
    noise, oracles = rng.uniform(0, NOISE) * NOISE_BY_ACTION, _oracles(world)
    move: str | None = None

    def act(observation: np.ndarray, info: dict[str, Any]) -> np.ndarray | None:
        nonlocal move
        now, goal = settings(observation)
        wanted = next_move(now, goal)
        kind = "" if move is None else move.split()[0]
        if move is None or (wanted != move and info["proprio/effector_pos"][2] > ABOVE[kind]):
            move = wanted
            if move is None:
                return None
            kind = move.split()[0]
            oracles[kind].reset(observation, info)
        if wanted == move:
            return oracles[kind].select_action(observation, world.told(info, move))
        return np.array([0.0, 0.0, 1.0, 0.0, -1.0])  # it is done: up, with open fingers

    return recorded(world, begun, rng, noise, steps, act)


def next_move(now: Setting, goal: Setting) -> str | None:
    """Return what is to be done next: "drawer", "window", "button 0" or "button 1"; None where nothing is left.

    A drawer or a window that is locked is unlocked first, and locked again in the end where that is asked for.
    """
    for number, (what, here, there) in enumerate(
        (("drawer", now.drawer, goal.drawer), ("window", now.window, goal.window))
    ):
        if abs(here - there) > THERE:
            return what if now.buttons[number] else f"button {number}"
    for number in range(2):
        if now.buttons[number] != goal.buttons[number]:
            return f"button {number}"
    return None


def _oracles(world: SceneWorld) -> dict[str, Any]:
    from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
    from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
    from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

    kinds = {"drawer": DrawerMarkovOracle, "window": WindowMarkovOracle, "button": ButtonMarkovOracle}
    return {name: kind(env=world) for name, kind in kinds.items()}
