"""Episodes of OGBench's scripted oracles: what they meant is recorded, what is carried out has noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from onestride.data.episode import Episode

NOISE, NOISE_BY_ACTION = 0.1, np.array([1.0, 1.0, 1.0, 3.0, 10.0])  # OGBench's: largest of an episode's, per action


def recorded(
    world: Any, begun: tuple[np.ndarray, dict[str, Any]], rng: np.random.Generator, noise: np.ndarray, steps: int,
    act: Callable[[np.ndarray, dict[str, Any]], np.ndarray | None],
) -> Episode:  # fmt: skip
    """Return one episode of at most ``steps`` steps; it terminated where nothing was left to do.

    Args:
        world: one that does not end at the goal.
        begun: what its ``reset`` returned.
        rng: all that is drawn comes from it; it seeds what the oracles draw too.
        noise: deviation of what is carried out from what was meant (A,).
        steps: after which it is cut off.
        act: maps an observation and its info to what is to be done (A,); None: nothing is left.
    """
    observation, info = begun
    observations, actions, rewards, done = [observation], [], [], False
    with _numpys_seed(int(rng.integers(2**31))):
        while len(actions) < steps:
            meant = act(observation, info)
            if meant is None:
                done = True
                break
            action = np.clip(meant, -1, 1)
            observation, reward, _, _, info = world.step(np.clip(action + noise * rng.standard_normal(5), -1, 1))
            observations.append(observation)
            actions.append(action)
            rewards.append(reward)
    return Episode(
        np.stack(observations).astype(np.float32), np.stack(actions).astype(np.float32),
        np.array(rewards, np.float32), terminated=done, truncated=not done,
    )  # fmt: skip


@contextmanager
def _numpys_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which the oracles draw from, and put back what it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
