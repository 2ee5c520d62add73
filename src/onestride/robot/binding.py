"""A robot's numbers bound by name to a task's: order, sign, zero and unit, checked before it moves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import Column
from onestride.robot.robot import TimedObservation

#: Unit -> (what it measures, how many SI units it is).
UNITS = {
    "rad": ("angle", 1.0), "deg": ("angle", math.pi / 180), "rad/s": ("angular velocity", 1.0),
    "deg/s": ("angular velocity", math.pi / 180), "m": ("length", 1.0), "mm": ("length", 1e-3), "cm": ("length", 1e-2),
    "m/s": ("velocity", 1.0), "mm/s": ("velocity", 1e-3), "N": ("force", 1.0), "N m": ("torque", 1.0),
    "1": ("share", 1.0), "%": ("share", 1e-2),
}  # fmt: skip


@dataclass(frozen=True)
class Link:
    """How a number of the task's is made of one of the robot's: ``sign * (value in the task's unit) + offset``.

    Attributes:
        column: the task's name of it.
        source: the robot's name of it.
        sign: 1, or -1 where the robot's axis points the other way.
        offset: the task's value where the robot says 0, in the task's unit.
        unit: the task's unit, where its column names none.
    """

    column: str
    source: str
    sign: int = 1
    offset: float = 0.0
    unit: str = ""


class Binding:
    """Maps a robot's numbers by name to a task's vector, and back.

    Args:
        columns: names and units of the task's numbers, in order, such as ``columns_of(spec)``.
        units: the robot's numbers by name, with the unit of each, as its driver gives or takes them.
        links: of the columns that are not called as the robot's numbers, or differ in sign or zero. A column that has
            no link and the name of a robot's number is that number.
        given: columns that the robot does not know, such as a goal; ``vector`` is told them each time.
        ignored: numbers of the robot that the task does not use.

    Raises:
        ValueError: a name is missing, doubled or unknown, a unit is unknown or cannot be converted, a sign is neither
            1 nor -1. The message names them all by their kind.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        units: Mapping[str, str],
        links: Iterable[Link] = (),
        *,
        given: Iterable[str] = (),
        ignored: Iterable[str] = (),
    ) -> None:
        links, given, ignored = list(links), list(given), list(ignored)
        names = [column.name for column in columns]
        _check_once("the task has", names)
        _check_once("a link, or given, is", [*(link.column for link in links), *given])
        _check_known("the task has", [*(link.column for link in links), *given], names)
        _check_known("the robot has", [*(link.source for link in links), *ignored], units)
        told = {link.column for link in links} | set(given)
        links += [Link(name, name) for name in names if name not in told and name in units]
        _check_once("a link to, or ignored, is", [*(link.source for link in links), *ignored])
        if missing := [name for name in names if name not in told | {link.column for link in links}]:
            raise ValueError(
                f"nothing says which of the robot's numbers {missing} are; the robot has {list(units)}: give links"
            )
        if unused := [name for name in units if name not in {link.source for link in links} | set(ignored)]:
            raise ValueError(f"the task uses none of the robot's {unused}: link them, or say that they are ignored")
        of = {link.column: link for link in links}
        self.columns, self.units, self.given = tuple(columns), dict(units), tuple(n for n in names if n in set(given))
        self._links = [of.get(name) for name in names]
        self._scales = [
            1.0 if link is None else link.sign * _scale(link, column, units[link.source])
            for link, column in zip(self._links, columns, strict=True)
        ]

    def vector(self, values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> np.ndarray:
        """Return the task's numbers (n,) float64 of what the robot says, by its names. NaN stays NaN.

        Args:
            values: of every number of the robot.
            given: of the columns that the robot does not know.

        Raises:
            ObservationError: a name is missing or unknown, or a value is no number.
        """
        given = given or {}
        for what, found, wanted in (("robot", values, self.units), ("program", given, self.given)):
            if found.keys() != set(wanted):
                missing, more = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
                raise ObservationError(f"the {what}'s numbers lack {missing} and have {more}; expected {list(wanted)}")
        made = np.empty(len(self.columns))
        for i, (column, link, scale) in enumerate(zip(self.columns, self._links, self._scales, strict=True)):
            name = column.name if link is None else link.source
            value = _number(name, given[name] if link is None else values[name])
            made[i] = value if link is None else scale * value + link.offset
        return made

    def values(self, vector: np.ndarray) -> dict[str, float]:
        """Return the robot's numbers by its names of the task's (n,); what is given or ignored is not among them.

        Raises:
            ValueError: the vector has another shape, or a number is not finite.
        """
        if np.shape(vector) != (len(self.columns),) or not np.isfinite(vector).all():
            raise ValueError(f"the task's numbers are {vector}, expected {len(self.columns)} finite ones")
        return {
            link.source: (float(vector[i]) - link.offset) / self._scales[i]
            for i, link in enumerate(self._links)
            if link is not None
        }


def _check_once(what: str, names: Sequence[str]) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} {doubled} more than once; every number is bound once")


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{what} no {unknown}; it has {known}")


def _scale(link: Link, column: Column, unit: str) -> float:
    """Return how many of the task's units one of the robot's is."""
    if link.sign not in (1, -1) or not math.isfinite(link.offset):
        raise ValueError(
            f"the link of '{column.name}' has sign {link.sign} and offset {link.offset}; expected 1 or -1, and a number"
        )
    if link.unit and column.unit and link.unit != column.unit:
        raise ValueError(f"'{column.name}' is in [{column.unit}] and its link says [{link.unit}]")
    wanted = column.unit or link.unit
    if unit == wanted != "":
        return 1.0
    if not wanted:
        raise ValueError(f"the task names no unit for '{column.name}': say it, Link(..., unit={unit!r})")
    here, there = UNITS.get(wanted), UNITS.get(unit)
    if here is None or there is None or here[0] != there[0]:
        raise ValueError(f"the robot has '{link.source}' in [{unit}], the task '{column.name}' in [{wanted}]")
    return there[1] / here[1]


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"'{name}' is {value!r}, expected a number") from error


class Driver(Protocol):
    """A robot whose numbers have names. ``read`` and ``fault`` are called in another thread than the rest.

    Attributes:
        observation: name -> unit of every number that it gives.
        command: name -> unit of every number that it takes.
    """

    observation: Mapping[str, str]
    command: Mapping[str, str]

    def read(self) -> tuple[Mapping[str, float], float]:
        """Return its numbers by name, and when they were sampled, by ``time.perf_counter()`` [s]."""
        ...

    def write(self, command: dict[str, float]) -> None:
        """Follow a command, by name, until the next one."""
        ...

    def stop(self) -> None:
        """Stop where it is, and refuse further commands."""
        ...

    def fault(self) -> str | None:
        """Return why it cannot go on, or None."""
        ...


class BoundRobot:
    """A driver as a ``Robot`` of a task.

    Args:
        driver: whose numbers have names.
        observes: binds ``driver.observation`` to the task's observation.
        commands: binds ``driver.command`` to the task's commands.
        given: returns the observation's numbers that the driver does not know, such as a goal, by the task's names.

    Raises:
        ValueError: a binding is of other names or units than the driver's, or leaves commands away.
    """

    def __init__(
        self,
        driver: Driver,
        observes: Binding,
        commands: Binding,
        given: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        for what, bound, there in (
            ("observation", observes.units, driver.observation),
            ("command", commands.units, driver.command),
        ):
            if bound != dict(there):
                raise ValueError(f"the {what} is bound to {bound}, the driver has {dict(there)}")
        if commands.given or len(commands.columns) != len(driver.command):
            raise ValueError(f"a command says all of {list(driver.command)}, no more and no less; nothing is left away")
        self.driver, self.observes, self.commands, self.given = driver, observes, commands, given
        self.stop, self.fault = driver.stop, driver.fault

    def read(self) -> TimedObservation:
        """Return the task's observation. What is not finite in it is left to the control loop, which refuses it.

        Raises:
            ObservationError: the driver gave other names than it said, or no numbers.
        """
        values, time = self.driver.read()
        return TimedObservation(self.observes.vector(values, self.given()), time)

    def write(self, command: np.ndarray) -> None:
        """Send the task's command (A,)."""
        self.driver.write(self.commands.values(command))
