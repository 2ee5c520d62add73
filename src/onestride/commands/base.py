"""What the commands have in common."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from onestride.experiment import Outcome

RUN = Path("runs/demo")


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
    """What every stage takes."""

    preset: str = "demo"
    """Where the other defaults come from: tiny, demo, full or paper (the arm); halfcheetah-small and others."""


def typed() -> str:
    """What was typed, for the record."""
    return "onestride " + " ".join(sys.argv[1:])


def say(outcome: Outcome) -> None:
    """The table and where it all is."""
    from onestride.progress import console

    console.print(outcome.table)
    print(f"results: {outcome.folder / 'comparison.json'}")
    if outcome.page is not None:
        print(f"report:  {outcome.page}")
