"""What the commands have in common.

``doing`` of a command: what it is about to do, with its fields in braces; said before anything slow is imported.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from onestride.experiment import Outcome
    from onestride.tasks.task import Task

RUN = Path("runs/demo")
#: The preset where none is given, and the run's data were made without one.
PRESET = "demo"


@dataclass(frozen=True)
class InRun:
    """What everything that works in a run's folder takes. resumes: the same command goes on where it was stopped."""

    resumes: ClassVar[bool] = True

    run: Path = RUN
    """Folder of this run: data, checkpoints and results live below it."""
    dry_run: bool = False
    """Print the resolved settings and stop."""


@dataclass(frozen=True)
class Common(InRun):
    """What every stage takes. sized: what is in the preset is of its task, and the run has to be of it too.

    of_preset: fields that a preset alone can say how they are; options that begin so are checked with its values.
    """

    sized: ClassVar[bool] = True
    of_preset: ClassVar[tuple[str, ...]] = ()

    preset: str = PRESET
    """Where the other settings come from: tiny, demo, full or paper (the arm); halfcheetah-small and others; gym-small
    for any environment. `onestride presets` lists them. The preset that made a run's data is taken for it again."""
    task: str | None = None
    """A task that is not built in: gym:ENVIRONMENT, FILE.py:NAME or MODULE:NAME. Later commands need it only where it
    comes from a file or module that is no installed package's."""

    @classmethod
    def with_preset(cls, name: str) -> Self:
        """Return the command with a preset's values; one that takes none but the name needs no torch for it."""
        return cls(preset=name)


@dataclass(frozen=True)
class Scalable:
    """What takes work that several machines can share."""

    on: str = "local"
    """Where work is done: local (this machine's processes), ray (a Ray of this machine alone), or ray://HOST:PORT (a
    cluster; the run's folder must be on a file system that all its machines see)."""


def announce(command: Any, arguments: list[str], said: str | None) -> None:
    """Say what is about to be done, and ``said``, while nothing slow has been imported; a dry run says nothing."""
    if not command.dry_run:
        print(f"onestride: {command.doing.format(**vars(command), arguments=arguments)}", file=sys.stderr, flush=True)
        if said is not None:
            print(f"onestride: {said}", file=sys.stderr)


def begin(command: Any) -> bool:
    """Return whether a command is to be carried out, or print it where that is all that was asked for.

    A device or a task that cannot be found is refused here, also where the run has no data to hold against it.
    """
    if command.dry_run:
        print(json.dumps({"command": type(command).__name__.lower(), **asdict(command)}, indent=2, default=str))
        if hasattr(command, "planned"):
            print("\n".join(command.planned()), file=sys.stderr)
        return False
    if (device := getattr(command, "device", "cpu")) != "cpu":  # torch takes seconds to import
        from onestride.device import resolve_device

        resolve_device(device)
    if (on := getattr(command, "on", "local")) != "local":
        from onestride.scale.cluster import check_address

        check_address(on)
    if (task := getattr(command, "task", None)) and ":" in task:
        task_named(task)  # before anything is said of the run, which may have no data yet
    return True


def task_named(name: str) -> Task:
    """Return the task of that name, or of FILE.py:NAME or MODULE:NAME.

    Raises:
        ValueError: there is none; the message names the nearest and all of them.
    """
    from onestride.tasks import TASKS

    if not name:
        raise ValueError("this preset is for any environment: say which with --task, such as --task gym:Reacher-v5")
    return TASKS[TASKS.resolve(name)]()


def print_outcome(outcome: Outcome) -> None:
    """The table, what to know of it, and where it all is."""
    from onestride.progress import console

    console.print(outcome.table)
    for note in outcome.notes:
        console.print(note, highlight=False, markup=False)
    print(f"results: {outcome.folder / 'comparison.json'}")
    if outcome.page is not None:
        print(f"report:  {outcome.page}")
