"""A log of a robot's observations is compared with what a policy learnt from, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import tyro

from onestride.commands.base import task_named

if TYPE_CHECKING:
    import numpy as np

    from onestride.tasks.task import Task

#: Chunks of a demonstrator that are made to compare with.
CHUNKS = 1
#: Faults that a log would not have shown are listed up to so many.
LISTED = 20


@dataclass(frozen=True)
class Doctor:
    """Say what is wrong with a log of observations: order, sign, unit, frame, delay, rate. Nothing moves.

    LOG is .npz or .csv with the time of every observation, about a minute of the robot moving as in the data (by hand,
    teleoperated, or replaying them). It is compared with a run's data (--run), a task's own demonstrator (--task), or a
    sample of data that --save wrote (--reference). The exit code is 1 if anything is wrong.
    """

    doing: ClassVar[str] = "comparing {log} with what a policy learns from"

    log: tyro.conf.Positional[Path] = Path()
    run: Path | None = None
    """The run on whose data the policy was trained."""
    task: str | None = None
    """The task; with --run or --reference only where it is of FILE.py:NAME or MODULE:NAME. Alone: its demonstrator."""
    reference: Path | None = None
    """A file that --save wrote, where there are no data, as on a robot's computer; needs --task."""
    save: Path | None = None
    """Where to write the sample of the data that was compared with."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.doctor.diagnose import diagnose
        from onestride.doctor.log import read_log
        from onestride.doctor.reference import Reference
        from onestride.files import ensure_absent
        from onestride.runs.run import episodes_of, task_of

        if self.run is not None and self.reference is not None:
            raise ValueError("give --run or --reference, not both")
        if self.run is None and self.task is None:
            raise ValueError("say what to compare with: --run RUN, --task NAME, or --task NAME --reference FILE")
        task = task_of(self.run) if self.run is not None else task_named(self.task or "")
        log = read_log(self.log, task.control)
        if self.save is not None:
            ensure_absent(self.save)
        if self.reference is not None:
            reference = Reference.load(self.reference, task.control)
        elif self.run is not None:
            reference = Reference.of(task.control, (episode.observations for episode in episodes_of(self.run)))
        else:
            reference = Reference.of(task.control, demonstrated(task))
        if self.save is not None:
            reference.save(self.save)
        found = diagnose(log, reference, task.control)
        for finding in found.findings:
            print(finding)
        print("\n".join(("checked:", *(f"  {line}" for line in found.checked))))
        if found.findings:
            raise SystemExit(1)
        print("nothing found")
        if found.blind:
            print(f"{len(found.blind)} single faults would not have been noticed in this log:")
            print("\n".join(f"  {line}" for line in found.blind[:LISTED]))
            if len(found.blind) > LISTED:
                print(f"  and {len(found.blind) - LISTED} more")


def demonstrated(task: Task) -> Iterator[np.ndarray]:
    """Yield observations of episodes of a task's own demonstrator.

    Raises:
        ValueError: it has none, or one that needs an actor.
    """
    if not task.has_demonstrator or task.needs_actor:
        raise ValueError(f"task '{task.name}' has no demonstrator of its own: give --run with the policy's data")
    if task.demonstrations is None:
        from onestride.tasks.kinova.demonstrations import chunk as source
    else:
        source = task.demonstrations_by(()).source
    for number in range(CHUNKS):
        episodes, _ = source(0, number)
        yield from (episode.observations for episode in episodes)
