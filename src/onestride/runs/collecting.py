"""The first stage: episodes of a task's own demonstrator, or of behaviour policies in its environment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onestride.data.actors import identities, read_behaviours
from onestride.data.collect import collect
from onestride.policy.behaviour import planner_behaviour
from onestride.runs.ingest import action_space
from onestride.runs.made_with import note_of
from onestride.runs.stage import DataSet
from onestride.tasks.collect_actors import behaviour_source
from onestride.tasks.task import Task


def plan_stage(
    run: Path, task: Task, episodes: int, seed: int, behaviours: Sequence[Path] = (), preset: str = ""
) -> dict[str, Any]:
    """Collect episodes of the task's own demonstrator into ``run/data``; returns what was made and what was refused.

    behaviours: the actor of a demonstrator that needs one. preset: that says so, which the run remembers.

    Raises:
        ValueError: the demonstrator needs none, or another one.
    """
    if behaviours and not task.needs_actor:
        raise ValueError(
            f"task '{task.name}' has a planner of its own, and --behaviours are of a benchmark's body: choose it "
            "by --preset or --task, such as --preset halfcheetah-small"
        )
    if task.demonstrations is not None:
        own = task.demonstrations_by(read_behaviours(behaviours))
        metadata = {"task": task.name, **own.metadata}
        return collect(own.source, episodes, seed, run / "data", metadata, action_space(task), note=note_of(preset))
    from onestride.tasks.kinova import demonstrations

    metadata, space = demonstrations.metadata(), demonstrations.action_space()
    return collect(demonstrations.chunk, episodes, seed, run / "data", metadata, space, note=note_of(preset))


def behaviour_stage(
    run: Path, task: Task, behaviours: Sequence[Path], steps: int, seed: int, data: DataSet | None = None,
    preset: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Collect steps of behaviour policies in the task's environment, as many of each, into ``run/data``.

    Args:
        run: the run's folder.
        task: whose environment is used.
        behaviours: see ``read_behaviours``; a folder is a trained planner's.
        steps: of all behaviours together.
        seed: of starts and noise.
        data: which set it is to be.
        preset: that says so, which the run remembers.

    Raises:
        ValueError: the set is of another task, or made by another number of behaviours.
    """
    data = data or DataSet()
    if data.name and data.name.split("-")[0] != task.name.split("-")[0]:
        raise ValueError(f"data set '{data.name}' is not of task '{task.name}': take another preset")
    policies = read_behaviours(behaviours, partial(planner_behaviour, control=task.control))
    if policies and data.behaviours not in (0, len(policies)):
        raise ValueError(
            f"data set '{data.name}' is made by {data.behaviours} behaviour, got {len(policies)} "
            f"({', '.join(p.name for p in policies)}); name {data.behaviours}, or take another preset"
        )
    metadata: dict[str, Any] = {"task": task.name, "behaviours": identities(policies)}
    if data.name:
        metadata["dataset"] = data.name
    source, space = behaviour_source(task, policies, steps), action_space(task)
    return collect(source, steps, seed, run / "data", metadata, space, "steps", note_of(preset))
