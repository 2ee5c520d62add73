"""Episodes of behaviour policies in a task's environment, of which datasets such as medium-expert are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onestride.data.actors import Behaviour
from onestride.data.collect import Source
from onestride.data.episode import Episode
from onestride.data.frames import with_images
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.task import Task

CHUNK = 10_000  # steps of one policy in a chunk
WIDTH = 10  # environments that are stepped together


def behaviour_source(task: Task, policies: Sequence[Behaviour], steps: int | None = None) -> Source:
    """Return a source of chunks of ``CHUNK`` steps, by each policy in turn, with as many steps of each.

    The last episode of a chunk is truncated to fit. An episode depends on the seed, the chunk's number and its own
    number in the chunk alone. Actions are clipped to the task's limits.

    Args:
        task: whose environment is used.
        policies: the behaviour policies.
        steps: of all policies together. Chunks are shortened so that whole rounds add up to it, rounded up.

    Raises:
        ValueError: the task has no environment, there is no policy, or a policy has other shapes.
    """
    if task.benchmark is None:
        raise ValueError(f"task '{task.name}' has no Gymnasium environment that a behaviour policy could act in")
    if not policies:
        raise ValueError(
            "no behaviour policy to collect with: name one or more with --behaviours, such as FILE.py:NAME, a function "
            "(observation, rng) -> action of yours; or bring episodes that there are with `onestride import` first"
        )
    for policy in policies:
        sizes = (policy.observation_dim, policy.action_dim)
        if None not in sizes and sizes != (task.control.step_dim, task.control.action_dim):
            raise ValueError(
                f"behaviour policy '{policy.name}' maps {policy.observation_dim} numbers to {policy.action_dim}; task "
                f"'{task.name}' needs {task.control.step_dim} to {task.control.action_dim}: is it of another body?"
            )
    steps = CHUNK * len(policies) if steps is None else steps
    rounds = -(-steps // (CHUNK * len(policies)))  # each policy has its turn in every one
    size = -(-steps // (rounds * len(policies)))
    lockstep = Lockstep(task.benchmark.environment, WIDTH)
    low, high = task.control.limits.low.astype(np.float32), task.control.limits.high.astype(np.float32)

    def source(seed: int, chunk: int) -> tuple[list[Episode], Counter[str]]:
        policy = policies[chunk % len(policies)]
        episodes: list[Episode] = []
        left = size
        while left:
            numbers = range(len(episodes), len(episodes) + WIDTH)
            streams = [np.random.default_rng((seed, chunk, n)) for n in numbers]
            seeds = [int(stream.integers(2**31)) for stream in streams]

            def act(observations: np.ndarray, which: np.ndarray, streams: list = streams) -> np.ndarray:
                return policy.act(observations, [streams[i] for i in which]).clip(low, high)

            for episode in lockstep.roll(seeds, act, policy.n_obs_steps):
                if left:
                    episodes.append(with_images(_cut(episode, left), task.control))
                    left -= len(episodes[-1])
        return episodes, Counter({f"steps of {policy.name}": size})

    return source


def _cut(episode: Episode, steps: int) -> Episode:
    """Return at most the first ``steps`` steps of an episode."""
    if len(episode) <= steps:
        return episode
    return replace(
        episode,
        observations=episode.observations[: steps + 1],
        actions=episode.actions[:steps],
        rewards=episode.rewards[:steps],
        terminated=False,
        truncated=True,
    )
