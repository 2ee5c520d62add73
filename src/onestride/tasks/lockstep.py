"""Environments side by side that wait for whoever acts: how data is collected and how benchmarks of returns are run.

Time stands still while the actor thinks; ``control/loop.py`` is the loop in which it does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from onestride.data.episode import Episode
from onestride.tasks.physics import mujoco

#: (observations (B, O) of the environments still running, which ones (B,)) -> actions (B, A).
Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Lockstep:
    """``width`` environments of one Gymnasium id, reused from batch to batch."""

    def __init__(self, environment: str, width: int) -> None:
        self.environment, self.width = environment, width
        with _quiet():
            makers = [partial(gymnasium.make, environment)] * width
            self.environments: Any = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)

    def roll(self, seeds: Sequence[int], act: Act) -> list[Episode]:
        """One episode from each seed, at most ``width``, all started together; the last reward counts.

        Actions must be finite: anything else is refused with the environment's seed and the step.
        """
        n = len(seeds)
        if not 1 <= n <= self.width:
            raise ValueError(f"{n} seeds for {self.width} environments; give between 1 and {self.width}")
        spares = self.width - n  # they run along with nobody looking
        observations, _ = self.environments.reset(seed=[int(s) for s in (*seeds, *[0] * spares)])
        idle = np.zeros(self.environments.action_space.shape, np.float32)
        seen = [[o] for o in np.array(observations)[:n]]
        acted: list[list[np.ndarray]] = [[] for _ in range(n)]
        earned: list[list[float]] = [[] for _ in range(n)]
        ends = np.zeros((n, 2), dtype=bool)
        active = np.arange(n)
        while len(active):
            chosen = np.asarray(act(observations[active], active), dtype=np.float32)
            if not np.isfinite(chosen).all():
                i = int(active[np.flatnonzero(~np.isfinite(chosen).all(1))[0]])
                raise ArithmeticError(f"an action is not finite: seed {seeds[i]}, step {len(acted[i])}")
            actions = idle.copy()
            actions[active] = chosen
            observations, rewards, terminated, truncated, _ = self.environments.step(actions)
            for i in active:
                seen[i].append(observations[i].copy())
                acted[i].append(actions[i])
                earned[i].append(float(rewards[i]))
                ends[i] = terminated[i], truncated[i]
            active = active[~ends[active].any(1)]
            over = terminated | truncated
            if over.any() and len(active):
                observations, _ = self.environments.reset(options={"reset_mask": over})
        return [
            Episode(
                np.stack(seen[i]).astype(np.float32), np.stack(acted[i]), np.array(earned[i], np.float32),
                bool(ends[i, 0]), bool(ends[i, 1]),
            )
            for i in range(n)
        ]  # fmt: skip

    def close(self) -> None:
        self.environments.close()


def make_environment(environment: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """``gymnasium.make`` without the warnings that every construction of these models repeats."""
    with _quiet():
        return gymnasium.make(environment, **settings)


@contextmanager
def _quiet() -> Iterator[None]:
    """No notices of old environment versions (v4 is meant), none of MuJoCo about an attribute in Gymnasium's XML.

    MuJoCo would write its own to the screen and to a log in the working folder, once for every environment.
    """
    said = mujoco.get_mju_user_warning()  # type: ignore[attr-defined]
    mujoco.set_mju_user_warning(lambda _text: None)  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(said)  # type: ignore[attr-defined]
