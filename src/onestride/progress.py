"""Progress bars with time left, for everything that takes more than a few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
QUIET_EVERY = 15.0  # where no terminal is watching, a line this often [s]


class Bar:
    """What a long step reports to."""

    def __init__(self, title: str, total: int, done: int, per_second: float) -> None:
        self.title, self.total, self.first = title, total, done
        self.started = self.printed = time.monotonic()
        self.progress: Progress | None = None
        if sys.stderr.isatty():
            self.progress = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                refresh_per_second=per_second,
            )
            self.task = self.progress.add_task(title, total=total, completed=done, note="")

    def update(self, done: int, note: str = "") -> None:
        """``done`` of the total are done."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self.printed >= QUIET_EVERY or done >= self.total:
            self.printed = now
            elapsed = now - self.started
            left = elapsed / max(done - self.first, 1) * (self.total - done)
            line = f"{self.title}: {done}/{self.total}, {elapsed:.0f} s, {left:.0f} s left  {note}"
            console.print(line, highlight=False)


@contextmanager
def track(title: str, total: int, done: int = 0, per_second: float = 10.0) -> Iterator[Bar]:
    """A bar from ``done`` to ``total``; on a terminal it is drawn ``per_second``, elsewhere it is a line every 15 s."""
    bar = Bar(title, total, done, per_second)
    if bar.progress is None:
        yield bar
    else:
        with bar.progress:
            yield bar
