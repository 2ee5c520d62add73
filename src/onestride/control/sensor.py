"""Readings of a robot with their age: a sensor that hangs delays nothing, and old or frozen readings are refused."""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, ObservationError, observation_vector
from onestride.robot.robot import Robot, TimedObservation

#: The expected duration is the median of this many of the last ones, so that a single outlier does not change it.
REMEMBERED = 5
#: A sensor counts as frozen only after this many repeated readings, however slow the loop is.
FEWEST_REPEATED = 3
#: A sample's time may be this far ahead of the loop's clock [s].
CLOCK_TOLERANCE = 0.001


@dataclass(frozen=True)
class Reading:
    """A reading of the robot.

    Attributes:
        observation: the vector that is decided on (observation_dim,), or what the robot gave where that is no vector.
        time: clock time of the sample [s].
        fault: the robot's fault, or None.
        took: how long the reading took [s].
    """

    observation: np.ndarray
    time: float
    fault: str | None
    took: float


class Expected:
    """The expected duration of something, from its last durations [s]."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Add a duration [s]."""
        self._last.append(seconds)

    @property
    def seconds(self) -> float | None:
        """The median of the last durations [s], or None before the first."""
        return sorted(self._last)[len(self._last) // 2] if self._last else None


class Reader(Protocol):
    """Reads a robot.

    Attributes:
        busy: whether a reading was requested and has not come yet.
    """

    busy: bool

    def request(self) -> None:
        """Begin a reading. The reader must not be busy."""
        ...

    def poll(self, until: float) -> Reading | None:
        """Return the reading that was requested, or None where it has not come by clock time ``until`` [s].

        Raises:
            Exception: what the robot raised.
        """
        ...

    def close(self) -> None:
        """End the reader. A reading that hangs is abandoned."""
        ...


def reader_of(robot: Robot, clock: Clock, dim: int) -> Reader:
    """Return a reader with a thread of its own on wall time, and one without where time is simulated.

    Args:
        robot: what is read.
        clock: the loop's clock.
        dim: size of the task's observations.
    """
    return ThreadReader(robot, clock, dim) if getattr(clock, "is_wall_time", False) else DirectReader(robot, clock, dim)


class DirectReader:
    """Reads when it is polled, for simulated time, in which nothing else happens meanwhile.

    Clock time ``until`` may pass during the reading.
    """

    def __init__(self, robot: Robot, clock: Clock, dim: int) -> None:
        self.robot, self.clock, self.dim, self.busy = robot, clock, dim, False

    def request(self) -> None:
        """Begin a reading."""
        self.busy = True

    def poll(self, until: float) -> Reading | None:
        """Read the robot and return the reading."""
        del until
        self.busy = False
        return _read(self.robot, self.clock, self.dim)

    def close(self) -> None:
        """Do nothing."""


class ThreadReader:
    """Reads in a daemon thread, which starts with the first request."""

    def __init__(self, robot: Robot, clock: Clock, dim: int) -> None:
        self.robot, self.clock, self.dim, self.busy = robot, clock, dim, False
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._readings: queue.SimpleQueue[Reading | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="readings", daemon=True)

    def request(self) -> None:
        """Begin a reading in the thread."""
        if self._thread.ident is None:
            self._thread.start()
        self.busy = True
        self._requests.put(True)

    def poll(self, until: float) -> Reading | None:
        """Return the reading, or None where it has not come by clock time ``until`` [s].

        Raises:
            Exception: what the robot raised.
        """
        try:
            found = self._readings.get(timeout=max(until - self.clock.now(), 0.0))
        except queue.Empty:
            return None
        self.busy = False
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """End the thread after the reading that is under way."""
        self._requests.put(False)

    def _work(self) -> None:
        while self._requests.get():
            try:
                found = _read(self.robot, self.clock, self.dim)
            except BaseException as error:  # the loop's thread must hear of it, whatever it is
                found = error
            self._readings.put(found)


def _read(robot: Robot, clock: Clock, dim: int) -> Reading:
    asked = clock.now()  # before reading: an observation is at least as old as it is taken to be
    given = robot.read()
    time, values = (given.time, given.values) if isinstance(given, TimedObservation) else (asked, given)
    try:
        observation = observation_vector(values, dim)
    except ObservationError:  # kept as it is: validate_observation says what is wrong with it
        observation = values
    if observation is values:  # a driver may fill the same array again
        observation = copy(values)
    return Reading(observation, time, robot.fault(), clock.now() - asked)


class SensorWatch:
    """Refuses readings that cannot be acted on: not valid for the task, too old, or of a frozen sensor.

    A sensor counts as frozen when it gives the same numbers for longer than the task's ``frozen_after`` although the
    robot is told to move.

    Args:
        control: the control interface of the task.
        oldest: age beyond which a reading is refused [s].
    """

    def __init__(self, control: ControlSpec, oldest: float) -> None:
        self.control, self.oldest = control, oldest
        self._numbers: np.ndarray | None = None
        self._since, self._repeated, self._moving = -math.inf, 0, False

    def mark_sent(self, moving: bool) -> None:
        """Note that a command was sent; ``moving`` says whether it asks the robot to move."""
        self._moving = self._moving or moving

    def refusal(self, reading: Reading, now: float) -> str | None:
        """Return why ``reading`` cannot be acted on at clock time ``now`` [s], or None where it can."""
        try:
            self.control.validate_observation(reading.observation)
        except ObservationError as error:
            return f"observation refused: {error}"
        if not (math.isfinite(reading.time) and reading.time <= now + CLOCK_TOLERANCE):
            return (
                f"observation refused: its time is {reading.time:g} s, and the loop's clock says {now:g} s; the driver "
                "has to give times of the loop's clock"
            )
        if now - reading.time > self.oldest:
            return "observation refused: older than may be acted on; is the sensor or its connection slow?"
        if self._frozen(reading):
            return (
                "observation refused: the same numbers again and again although the robot is told to move; is the "
                "sensor dead?"
            )
        return None

    def _frozen(self, reading: Reading) -> bool:
        if self._numbers is None or not np.array_equal(reading.observation, self._numbers):
            self._numbers, self._since, self._repeated, self._moving = reading.observation, reading.time, 0, False
            return False
        self._repeated += 1
        lasted = reading.time - self._since
        return self._moving and self._repeated >= FEWEST_REPEATED and lasted > self.control.frozen_after
