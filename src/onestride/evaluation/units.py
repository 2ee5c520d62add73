"""Batches of episodes as units of work for a cluster, and what is kept of episodes wherever they are rolled."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.data.episode import Episode
from onestride.evaluation.entries import Entry, made_by
from onestride.evaluation.records import Record
from onestride.evaluation.rollouts import Batch, Stage, roller
from onestride.evaluation.variant import Variant
from onestride.scale.cluster import Cluster
from onestride.scale.units import UNITS, Result, Unit
from onestride.tasks import TASKS
from onestride.tasks.reference import episode_record
from onestride.tasks.task import Task

ROLL = "onestride.evaluation.units:roll_batch"


def rolled_on(
    cluster: Cluster, stage: Stage, batches: Sequence[Batch], folder: Path, settings: Mapping[str, Any]
) -> Iterator[tuple[Batch, list[Record], torch.Tensor]]:
    """Yield every batch, as they come from a cluster, with its records and the states that its planner visited.

    Args:
        cluster: whose processes roll.
        stage: where.
        batches: of which planners and episodes.
        folder: of the evaluation.
        settings: of the evaluation: units of other settings are rolled again.
    """
    units = [batch_unit(stage, batch, settings) for batch in batches]
    of = {unit.name: batch for unit, batch in zip(units, batches, strict=True)}
    for unit, result in cluster.run(units, folder / UNITS, gpu=stage.device.startswith("cuda")):
        yield of[unit.name], result.said, result.tensors["states"]
        unit.path(folder / UNITS).unlink(missing_ok=True)  # it is in the records now
    shutil.rmtree(folder / UNITS, ignore_errors=True)


def batch_unit(stage: Stage, batch: Batch, settings: Mapping[str, Any]) -> Unit:
    """Return a batch as a unit of work."""
    entry = batch.entry
    place = asdict(stage) | {"run": str(stage.run.resolve())}
    planner = {"variant": entry.variant.fields(), "folder": str(entry.folder.resolve()), "seed": entry.seed}
    arguments = {
        "stage": place, "planner": planner, "made_by": made_by(stage.run, entry), "settings": dict(settings),
        "first": batch.first, "count": batch.count,
    }  # fmt: skip
    return Unit(f"{entry.row}-{entry.seed}-{batch.first}", ROLL, arguments)


def roll_batch(arguments: Mapping[str, Any]) -> Result:
    """Roll a unit's batch in this process."""
    place, planner = arguments["stage"], arguments["planner"]
    stage = Stage(**place | {"run": Path(place["run"])})
    entry = Entry(Variant.of(planner), Path(planner["folder"]), planner["seed"])
    episodes = _entered(stage)[1](Batch(entry, arguments["first"], arguments["count"]))
    records, states = said_of(TASKS[stage.task](), episodes, arguments["settings"]["states"])
    return Result(records, {"states": states})


@lru_cache(1)
def _entered(stage: Stage) -> tuple[AbstractContextManager[Any], Callable[[Batch], list[Episode]]]:
    """What rolls a stage's batches, and the context that it lives in, which is as long as the process."""
    context = roller(stage)
    return context, context.__enter__()


# ---------------------------------------------------------------- what is kept of episodes


def said_of(task: Task, episodes: Sequence[Episode], states: int) -> tuple[list[Record], torch.Tensor]:
    """Return a record of every episode, and so many of the states (n, observation_dim) in which was decided."""
    seen = np.concatenate([decided_on(e, task.control.n_obs_steps) for e in episodes])
    evenly = np.linspace(0, len(seen) - 1, states).round().astype(int)
    return [episode_record(task, episode) for episode in episodes], torch.from_numpy(seen[evenly])


def decided_on(episode: Episode, n_obs_steps: int) -> np.ndarray:
    """Return what could be decided on at every step of an episode (T, observation_dim): its last observations."""
    steps = np.arange(len(episode))[:, None] + np.arange(1 - n_obs_steps, 1)
    return episode.observations[steps.clip(min=0)].reshape(len(episode), -1)
