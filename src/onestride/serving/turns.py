"""The one thread in which decisions are made, so that clients take turns and the event loop never waits for one.

It is quicker than an executor's: on a robot's way to its answer every hand-over between threads counts. A decision that
never ends does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Turns:
    """Makes calls one after the other, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], object]] | None] = (
            SimpleQueue()
        )
        threading.Thread(target=self._work, name="decisions", daemon=True).start()

    async def call(self, job: Callable[[], T]) -> T:
        """Return what ``job()`` returns in that thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, future, result, error)

        self._jobs.put((job, done))
        return await future

    def run(self, job: Callable[[], T]) -> T:
        """Return what ``job()`` returns in that thread, for callers without an event loop."""
        future: Future[T] = Future()
        self._jobs.put((job, lambda result, error: _settle(future, result, error)))
        return future.result()

    def close(self) -> None:
        """End the thread after the calls that were asked for."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (asked := self._jobs.get()) is not None:
            job, done = asked
            result = error = None
            try:
                result = job()
            except BaseException as raised:  # whoever asked hears of it, and the thread goes on
                error = raised
            done(result, error)


def _settle(future: asyncio.Future[T] | Future[T], result: T, error: BaseException | None) -> None:
    if future.cancelled():  # its client is gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
