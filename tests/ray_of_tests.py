"""A Ray of this process, for tests: what is asked for is done when it is waited for, and processes can be lost."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace


class WorkerCrashedError(Exception):
    """As Ray's."""


class RayOfTests:
    """As much of the module as ``scale.cluster`` asks for.

    lost: for how many tasks, one after another, every process that begins them is killed.
    """

    exceptions = SimpleNamespace(
        RayError=Exception, WorkerCrashedError=WorkerCrashedError, OutOfMemoryError=WorkerCrashedError,
        NodeDiedError=WorkerCrashedError,
    )  # fmt: skip

    def __init__(self, cpus=2, lost=0):
        self.cpus, self.lost, self.cancelled = cpus, lost, []
        self._tasks, self._numbers, self.most = {}, count(), 0

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def remote(self, function):
        def begin(*arguments):
            number = next(self._numbers)
            self._tasks[number] = lambda: function(*arguments)
            self.most = max(self.most, len(self._tasks))
            return number

        task = SimpleNamespace(remote=begin)
        task.options = lambda **_: task
        return task

    def wait(self, pending, num_returns):
        last = pending[-num_returns:]  # not in the order in which they were begun
        return last, pending[:-num_returns]

    def get(self, number):
        task = self._tasks.pop(number)
        if self.lost:
            self.lost -= 1
            raise WorkerCrashedError
        return task()

    def cancel(self, number, force):
        assert force
        self.cancelled.append(number)
