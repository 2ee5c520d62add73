"""Plentiful episodes of another body beside the run's own few: ``<run>/source``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from onestride.checkpoint import CONFIG
from onestride.data.minari import read_metadata
from onestride.files import CheckpointError, clear_abandoned, temporary_folder
from onestride.runs.run import SOURCE, episodes_of, task_of

#: A source run's planner by its folder -> what it is called in the run that takes it.
PLANNERS = {"return-diffuser": "source-diffuser"}


def take_source(run: Path, other: Path) -> list[Path]:
    """Take the episodes of another run as the source beside the run's own; returns the folders that were made.

    Its planner that asks for a return comes along, as ``source-diffuser``, unless it is there already. Files are hard
    links where the disk can.

    Raises:
        CheckpointError: one of the runs has no data, its files were altered, or its plans have other shapes.
        FileExistsError: the run has a source already, and it is another one.
    """
    own, theirs = task_of(run).control, task_of(other).control
    if (own.observation_dim, own.action_dim) != (theirs.observation_dim, theirs.action_dim):
        raise CheckpointError(
            f"{other} is of task '{theirs.name}' ({theirs.observation_dim} numbers observed, {theirs.action_dim} of an "
            f"action), {run} of '{own.name}' ({own.observation_dim}, {own.action_dim}): a source has the same shapes"
        )
    next(iter(episodes_of(other)))  # its files are what they were
    made = []
    if not (run / SOURCE).exists():
        made.append(_linked(other / "data", run / SOURCE))
    elif read_metadata(run / SOURCE) != read_metadata(other / "data"):
        raise FileExistsError(f"{run / SOURCE} holds another source; name another --run, or delete it first")
    for theirs_called, called in PLANNERS.items():
        for config in sorted(other.glob(f"{theirs_called}-*/{CONFIG}")):
            seed = config.parent.name.rpartition("-")[2]
            if not (run / f"{called}-{seed}").exists():
                made.append(_linked(config.parent, run / f"{called}-{seed}"))
    return made


def _linked(folder: Path, to: Path) -> Path:
    """Copy a folder as a whole or not at all."""
    clear_abandoned(to.parent, to.name)
    unfinished = temporary_folder(to)
    try:
        shutil.copytree(folder, unfinished, copy_function=_link, dirs_exist_ok=True)
        unfinished.chmod(0o755)
        os.rename(unfinished, to)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return to


def _link(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, to)
