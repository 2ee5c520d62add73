"""Progress bars with the time left, for work that takes more than a few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
QUIET_EVERY = 15.0  # time between two lines where the output is no terminal [s]


class Bar:
    """A progress bar on a terminal, or a line of text now and then elsewhere."""

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
        """Show that ``done`` of the total are done, and a note."""
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
    """Show a progress bar while the context lasts.

    Args:
        title: what is being done.
        total: how many steps there are.
        done: how many are done already.
        per_second: updates on a terminal [Hz]. Elsewhere there is a line every ``QUIET_EVERY`` seconds.

    Yields:
        The bar, to be updated.
    """
    bar = Bar(title, total, done, per_second)
    if bar.progress is None:
        yield bar
    else:
        with bar.progress:
            yield bar
