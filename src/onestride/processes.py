"""Jobs in several processes, none of which outlives the one that began them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")
Made = TypeVar("Made")
Worker = Callable[[], AbstractContextManager[Callable[[Job], Made]]]


def run_jobs(worker: Worker[Job, Made], jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Made]]:
    """Return every job with what was made of it: in order by this process, by several as they come.

    Args:
        worker: entered in every process, it gives what does a job; it and the jobs must be picklable.
        processes: where below 2, this one does everything. Several have one thread of torch's each.

    Raises:
        BrokenProcessPool: a process was killed from outside.
    """
    if processes < 2:
        with worker() as do:
            for job in jobs:
                yield job, do(job)
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (worker,))
    try:
        pending = {_submitted(pool, job): job for job in jobs}
        for done in as_completed(list(pending)):
            yield pending.pop(done), done.result()  # not kept: all of them together may be gigabytes
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()  # a job can take minutes, and nobody waits for it any more
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, job: Any) -> Future[Any]:
    try:
        return pool.submit(_do, job)
    except OSError as error:
        if "handle is closed" in str(error):  # the pool breaks between its own check and its write to its thread
            raise BrokenProcessPool from error
        raise


# Inside a process of the pool.

_entered: tuple[AbstractContextManager[Callable[[Any], Any]], Callable[[Any], Any]]


def _begin(worker: Worker[Any, Any]) -> None:
    global _entered
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    torch.set_num_threads(1)
    Thread(target=_end_with_the_parent, daemon=True).start()
    made = worker()
    _entered = made, made.__enter__()  # it lives as long as the process


def _end_with_the_parent() -> None:
    """End this process with one that is killed outright, or it would wait for its next job for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(job: Any) -> Any:
    return _entered[1](job)
