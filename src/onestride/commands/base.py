"""What the commands have in common."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from onestride.experiment import Outcome

RUN = Path("runs/demo")
#: What torch says when there is no memory for something, on the CPU and on a GPU.
NO_MEMORY = ("can't allocate memory", "out of memory")


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
    """What every stage takes. sized: what is in the preset is of its task, and the run has to be of it too."""

    sized: ClassVar[bool] = True

    preset: str = "demo"
    """Where the other defaults come from: tiny, demo, full or paper (the arm); halfcheetah-small and others; gym-small
    for any environment."""
    task: str | None = None
    """A task that is not built in: gym:ENVIRONMENT, FILE.py:NAME or MODULE:NAME. Later commands need it only where it
    comes from a file or module that is no installed package's."""


def typed(program: str = "onestride") -> str:
    """What was typed, for the record: the program with its arguments, as a shell takes them."""
    return shlex.join([program, *sys.argv[1:]])


def say(outcome: Outcome) -> None:
    """The table and where it all is."""
    from onestride.progress import console

    console.print(outcome.table)
    print(f"results: {outcome.folder / 'comparison.json'}")
    if outcome.page is not None:
        print(f"report:  {outcome.page}")


@contextmanager
def mendable() -> Iterator[None]:
    """Errors that a user can mend are one message on stderr and exit code 2; a bug shows where it is.

    The system's own errors and missing packages are a user's to mend; of others, those that this program raises on
    purpose.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough; the interpreter's last flush would fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as shells call it
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        if not (isinstance(error, (OSError, ModuleNotFoundError)) or on_purpose(error)):
            raise
        print(f"onestride: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(said in str(error) for said in NO_MEMORY)):
            raise
        print(f"onestride: memory is short; ask for less. It said: {str(error).splitlines()[0]}", file=sys.stderr)
        raise SystemExit(2) from None


def on_purpose(error: Exception) -> bool:
    """Return whether a ``raise`` statement of this program made the error, here or in a process that it started.

    Errors of other libraries and of built-in functions are bugs of ours: we gave them what they cannot take.
    """
    if isinstance(remote := error.__cause__, Exception) and type(remote).__name__ == "_RemoteTraceback":
        lines = [line.strip() for line in str(remote).splitlines()]
        places = [i for i, line in enumerate(lines) if line.startswith('File "')]
        if not places:
            return False
        file, line = lines[places[-1]].split('"')[1], lines[places[-1] + 1]
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        file, line = frame.filename, frame.line or ""
    script = getattr(sys.modules["__main__"], "__file__", None)  # a benchmark
    ours = Path(file).is_relative_to(Path(__file__).parents[1]) or file == script
    return ours and line.startswith("raise ")
