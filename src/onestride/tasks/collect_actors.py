"""Episodes from behaviour policies in a task's environment: how a dataset such as medium-expert is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onestride.data.actors import BehaviourPolicy
from onestride.data.collect import Source
from onestride.data.episode import Episode
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.task import Task

CHUNK = 10_000  # steps of one policy in a row
WIDTH = 10  # environments side by side


def behaviour_source(task: Task, policies: Sequence[BehaviourPolicy], steps: int | None = None) -> Source:
    """Chunks of ``CHUNK`` steps, the policies in turns: as many steps of each.

    steps: of all policies together; chunks are then so much shorter that they add up to it, rounded up.

    The last episode of a chunk is cut off to fit (truncated). An episode depends on the seed, the chunk and its
    number there alone.

    Raises:
        ValueError: the task has no environment to roll in, or a policy is of other shapes.
    """
    if task.benchmark is None:
        raise ValueError(f"task '{task.name}' has no Gymnasium environment that a behaviour policy could act in")
    if not policies:
        raise ValueError("no behaviour policy to collect with: name one or more with --behaviours")
    for policy in policies:
        if (policy.observation_dim, policy.action_dim) != (task.observation_dim, task.action_dim):
            raise ValueError(
                f"behaviour policy '{policy.name}' maps {policy.observation_dim} numbers to {policy.action_dim}; task "
                f"'{task.name}' needs {task.observation_dim} to {task.action_dim}: is it of another body?"
            )
    steps = CHUNK * len(policies) if steps is None else steps
    rounds = -(-steps // (CHUNK * len(policies)))  # each policy has its turn in every one
    size = -(-steps // (rounds * len(policies)))
    lockstep = Lockstep(task.benchmark.environment, WIDTH)

    def source(seed: int, chunk: int) -> tuple[list[Episode], Counter[str]]:
        policy = policies[chunk % len(policies)]
        episodes: list[Episode] = []
        left = size
        while left:
            numbers = range(len(episodes), len(episodes) + WIDTH)
            streams = [np.random.default_rng((seed, chunk, n)) for n in numbers]
            seeds = [int(stream.integers(2**31)) for stream in streams]

            def act(observations: np.ndarray, which: np.ndarray, streams: list = streams) -> np.ndarray:
                return policy.act(observations, [streams[i] for i in which])

            for episode in lockstep.roll(seeds, act):
                if left:
                    episodes.append(_cut(episode, left))
                    left -= len(episodes[-1])
        return episodes, Counter({f"steps of {policy.name}": size})

    return source


def _cut(episode: Episode, steps: int) -> Episode:
    """At most the first ``steps`` steps."""
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
