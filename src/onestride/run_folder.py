"""A run's folder: what is where in it, of which task it is, and what its parts were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from onestride.checkpoint import CONFIG, load_config
from onestride.control.policy import GENERATORS
from onestride.data.minari import read_dataset, read_metadata
from onestride.data.normalize import Normalizer
from onestride.data.windows import Windows, make_windows
from onestride.files import CheckpointError
from onestride.selectors.store import load_selector
from onestride.tasks import TASKS
from onestride.tasks.task import Task

RETURNS, CRITIC, TEACHER, PAIRS, EDM = "returns", "iql", "teacher", "pairs", "edm"
#: What of a dataset's metadata decides what is learnt from it.
ORIGIN = ("seed", "episodes", "steps", "generator_version", "planner", "behaviours", "source", "content", "total_steps")


def task_of(run: Path) -> Task:
    """The task of a run's data."""
    name = read_metadata(run / "data").get("task")
    if name not in TASKS:
        raise CheckpointError(f"{run / 'data'} is a dataset of task '{name}'; this version has {', '.join(TASKS)}")
    return TASKS[name]()


def rows_of(run: Path) -> dict[str, tuple[str, int]]:
    """Folders of the run that hold planners -> row of the table and training seed: ``dnk-0`` is ("dnk", 0)."""
    found = {}
    for path in sorted(run.glob(f"*/{CONFIG}")):
        name = path.parent.name
        if load_config(path.parent).get("kind") in GENERATORS and name != EDM:
            row, _, seed = name.rpartition("-")
            found[name] = (row, int(seed)) if seed.isdigit() else (name, 0)
    return found


def data_report(run: Path) -> dict[str, Any]:
    """What the run's data is: counts, where from, seed."""
    metadata = read_metadata(run / "data")
    keys = (*ORIGIN, "counts", "episodes_per_s", "steps_per_s", "generator", "task")
    return {k: metadata[k] for k in keys if k in metadata}


def without_history(config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's config without its loss curve, which stays with the checkpoint."""
    return {**config, "training": {k: v for k, v in config["training"].items() if k != "history"}}


# ---------------------------------------------------------------- what is learnt from


def windows_of(run: Path, task: Task) -> tuple[Windows, Normalizer]:
    """The windows of a run's data and the normaliser fitted to them."""
    windows = make_windows(read_dataset(run / "data", written_here=True), task)
    return windows, Normalizer.fit(windows.plans, windows.context)


def normalised(windows: Windows, normalizer: Normalizer) -> dict[str, Tensor]:
    return {"plans": normalizer.plans(windows.plans), "context": normalizer.context(windows.context)}


def preset_of(task: Task) -> str:
    """A preset for such a task, to be named in advice."""
    return "demo" if task.benchmark is None else f"{task.name.split('-')[0]}-small"


def fits(run: Path, preset: str, of: str) -> None:
    """A preset's sizes are its task's (``of``): whether the run's data, if there is any, is of it, in any version.

    Raises:
        ValueError: it is of another.
    """
    if not (run / "data").exists():
        return
    task = task_of(run)
    if task.name.split("-")[0] != of.split("-")[0]:
        raise ValueError(
            f"{run} is of task '{task.name}', and preset '{preset}' of '{of}'; give --preset {preset_of(task)}, or "
            "another of its body"
        )


def critic_of(run: Path, task: Task) -> Any:
    """The run's IQL critic, where the task has no selector of its own."""
    if task.score is not None:
        return None
    identity_of(run / CRITIC, "critic")
    return load_selector(run / CRITIC, task)


# ---------------------------------------------------------------- what made it


def identity_of(folder: Path, command: str) -> str:
    """Which training made the checkpoint there; ``command`` is the one that does.

    Raises:
        CheckpointError: none has yet.
    """
    if not (folder / CONFIG).is_file():
        preset = preset_of(task_of(folder.parent))
        raise CheckpointError(
            f"{folder} is not trained yet, and comes first: `onestride {command} --preset {preset} --run "
            f"{folder.parent}`, or the preset you train with"
        )
    return load_config(folder)["training"]["id"]


def data_identity(run: Path) -> dict[str, Any]:
    metadata, early = read_metadata(run / "data"), task_of(run).early
    return {k: metadata[k] for k in ORIGIN if k in metadata} | ({"early": list(early)} if early[1] > 1 else {})
