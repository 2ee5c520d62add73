"""Vectorised environments that wait for their actor, for collecting data and for benchmarks of returns.

Time stands still while the actor decides. In ``control/loop.py`` it goes on.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from onestride.data.episode import Episode
from onestride.errors import EXTRAS

#: Maps observations (B, O) of the running environments, and their indices (B,), to actions (B, A), or to chunks of
#: actions (B, n, A), which are carried out before the next are asked for.
Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Lockstep:
    """``width`` environments of one Gymnasium id, which are reused from batch to batch."""

    def __init__(self, environment: str, width: int) -> None:
        self.environment, self.width = environment, width
        with quiet():
            makers = [partial(gymnasium.make, environment)] * width
            self.environments: Any = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)

    def roll(self, seeds: Sequence[int], act: Act, n_obs_steps: int = 1) -> list[Episode]:
        """Return one episode for each seed, all started together. The last step's reward is included.

        Args:
            seeds: at most ``width``.
            act: gives the actions.
            n_obs_steps: how many of its last observations an environment's actor is given, the oldest first; before
                there are so many the first is repeated.

        Raises:
            ValueError: too many seeds, or none.
            ArithmeticError: an action is not finite. The message has the seed and the step.
        """
        n = len(seeds)
        if not 1 <= n <= self.width:
            raise ValueError(f"{n} seeds for {self.width} environments; give between 1 and {self.width}")
        spares = self.width - n  # unused environments of the vector; their outputs are ignored
        observations, _ = self.environments.reset(seed=[int(s) for s in (*seeds, *[0] * spares)])
        idle = np.zeros(self.environments.action_space.shape, np.float32)
        seen = [[o] for o in np.array(observations)[:n]]
        acted: list[list[np.ndarray]] = [[] for _ in range(n)]
        earned: list[list[float]] = [[] for _ in range(n)]
        ends = np.zeros((n, 2), dtype=bool)
        active = np.arange(n)
        chunks = np.zeros((n, 0, 0), np.float32)
        while len(active):
            step = len(acted[active[0]])  # all running environments are at the same
            if not chunks.shape[1]:
                history = [[seen[i][max(step - back, 0)] for back in range(n_obs_steps - 1, -1, -1)] for i in active]
                made = np.asarray(act(np.array(history).reshape(len(active), -1), active), dtype=np.float32)
                made = made[:, None] if made.ndim == 2 else made
                chunks = np.zeros((n, *made.shape[1:]), np.float32)
                chunks[active] = made
            chosen, chunks = chunks[active, 0], chunks[:, 1:]
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
        """Close the environments."""
        self.environments.close()


def make_environment(environment: str | EnvSpec, **settings: Any) -> gymnasium.Env[Any, Any]:
    """Return ``gymnasium.make(environment, **settings)`` without its repeated warnings."""
    with quiet():
        return gymnasium.make(environment, **settings)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings about old environment versions, and MuJoCo's where it is installed.

    Raises:
        ModuleNotFoundError: the environment needs a package that is not installed.
    """
    mujoco_quiet = _mujoco_quiet() if importlib.util.find_spec("mujoco") else nullcontext()
    with mujoco_quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except gymnasium.error.DependencyNotInstalled as error:
            if not isinstance(missing := error.__context__, ModuleNotFoundError):
                raise
            if missing.name in EXTRAS:
                raise missing from None
            raise ModuleNotFoundError(" ".join(str(error).split()), name=missing.name) from None


@contextmanager
def _mujoco_quiet() -> Iterator[None]:
    """Suppress MuJoCo's warning about an attribute in Gymnasium's XML.

    MuJoCo writes it to the screen and to a log in the working folder, once for every environment.
    """
    from onestride.tasks.physics import mujoco

    said = mujoco.get_mju_user_warning()  # type: ignore[attr-defined]
    mujoco.set_mju_user_warning(lambda _text: None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(said)  # type: ignore[attr-defined]
