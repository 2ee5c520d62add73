"""A robot that is read and never told anything: what it would have been told stands in a file.

with DryRun(robot, Path("commands.csv")) as dry:
    run_episode(dry, clock, worker, standing, timeout=10.0)
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np

from onestride.robot.robot import Robot, TimedObservation


class DryRun:
    """A ``Robot`` whose commands are logged and not sent; its ``stop`` does not reach the robot either.

    Args:
        robot: what is read.
        path: a .csv file: the time [s], what was asked for, and what was last observed.
    """

    def __init__(self, robot: Robot, path: Path) -> None:
        self.robot, self.fault = robot, robot.fault
        self._file = path.open("x", newline="")
        self._rows, self._seen = csv.writer(self._file), np.zeros(0)
        self._titled = False

    def __enter__(self) -> DryRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> np.ndarray | TimedObservation:
        """Return the robot's observation."""
        given = self.robot.read()
        self._seen = given.values if isinstance(given, TimedObservation) else given
        return given

    def write(self, command: np.ndarray) -> None:
        """Log a command."""
        if not self._titled:
            columns = [f"command[{i}]" for i in range(len(command))]
            self._rows.writerow(["time", *columns, *(f"observation[{i}]" for i in range(len(self._seen)))])
            self._titled = True
        self._rows.writerow([time.perf_counter(), *command, *self._seen])

    def stop(self) -> None:
        """Log that it would have been stopped."""
        self._rows.writerow(["stop"])
