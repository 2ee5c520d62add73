"""Logs of a robot's observations with their times: recorded, written, and read from .npz and .csv files."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onestride.files import write_atomically
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, observation_vector
from onestride.robot.fields import Column, columns_of
from onestride.robot.robot import Robot, TimedObservation

#: Fewer observations than this say too little.
SHORTEST = 50
#: Names of a file's column or array of times, and of the numbers of its episodes.
TIME, EPISODE = "time", "episode"
_TITLE = re.compile(r"\s*(?P<name>.*?)\s*(\[(?P<unit>[^\[\]]*[^\[\]\d][^\[\]]*)\])?\s*$")


@dataclass(frozen=True)
class Log:
    """Observations with their times.

    Attributes:
        times: of the samples [s] (T,), each later than the one before it in its episode.
        observations: (T, step_dim), in the order of the task's columns.
        episodes: a number per row (T,). Rows of one episode follow one another; nothing is said of a step to another.
        notes: what was understood in another way than it stood there.
    """

    times: np.ndarray
    observations: np.ndarray
    episodes: np.ndarray
    notes: tuple[str, ...] = ()

    def pieces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return times (T_p,) and observations (T_p, step_dim) of each episode of two rows or more."""
        cuts = np.flatnonzero(np.diff(self.episodes)) + 1
        parts = zip(np.split(self.times, cuts), np.split(self.observations, cuts), strict=True)
        return [(times, rows) for times, rows in parts if len(times) > 1]


def read_log(path: Path, spec: ControlSpec) -> Log:
    """Return a log that a file holds, its columns bound by name to the task's.

    A .npz file has ``times`` (T,) [s], ``observations`` (T, step_dim), and perhaps ``episode`` (T,) and ``names``
    (step_dim,). A .csv file has a title per column: ``time``, perhaps ``episode``, and the names of the task's columns
    in any order, each perhaps with its unit, as in ``position[0] [m]``.

    Raises:
        ValueError: it lacks something, names or units are not the task's, or it is too short. FileNotFoundError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no log {path}; record one with onestride.doctor.log.record")
    if path.suffix not in (".npz", ".csv"):
        raise ValueError(f"{path} is no .npz or .csv file; write times and observations as one of them")
    read = _read_npz if path.suffix == ".npz" else _read_csv
    return _checked(path, spec, *read(path))


def _read_npz(path: Path) -> tuple[list[str] | None, dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npz file of numbers: {error}") from error
    names = arrays.pop("names", None)
    return None if names is None else [str(name) for name in names], arrays


def _read_csv(path: Path) -> tuple[list[str] | None, dict[str, np.ndarray]]:
    with path.open(newline="") as file:
        titles, *lines = [line for line in csv.reader(file) if line] or [[]]
    rows = np.empty((len(lines), len(titles)))
    for number, line in enumerate(lines):
        try:
            rows[number] = [float(cell) for cell in line]
        except ValueError as error:
            raise ValueError(
                f"{path}, row {number + 1} after the titles: {error}; expected {len(titles)} numbers"
            ) from error
    arrays = {}
    stripped = [title.strip().removesuffix("[s]").strip() for title in titles]
    for name, key in ((TIME, "times"), (EPISODE, EPISODE)):
        if name in stripped:
            arrays[key] = rows[:, stripped.index(name)]
    others = [i for i, title in enumerate(stripped) if title not in (TIME, EPISODE)]
    return [titles[i] for i in others], arrays | {"observations": rows[:, others]}


def _checked(path: Path, spec: ControlSpec, names: list[str] | None, arrays: dict[str, np.ndarray]) -> Log:
    if missing := sorted({"times", "observations"} - arrays.keys()):
        raise ValueError(f"{path} has no {' and no '.join(missing)}; a log needs the time [s] of every observation")
    times, rows = arrays["times"], arrays["observations"]
    episodes = arrays.get(EPISODE, np.zeros(len(times)))
    if rows.ndim != 2 or times.shape != (len(rows),) or episodes.shape != (len(rows),):
        raise ValueError(
            f"{path}: times {times.shape}, observations {rows.shape}, {EPISODE} {episodes.shape}; expected (T,), "
            f"(T, {spec.numbers_dim}) and (T,)"
        )
    if any(array.dtype.kind not in "fiu" for array in (times, rows, episodes)):
        raise ValueError(f"{path} holds {times.dtype}, {rows.dtype} and {episodes.dtype}; expected numbers")
    columns, notes = columns_of(spec), []
    if names is not None:
        order = _bound(path, names, columns)
        if order != sorted(order):
            notes.append("the log's columns are in another order than the task's; they were read by their names")
        rows = rows[:, order]
    if rows.shape[1] != len(columns):
        raise ValueError(
            f"{path} has observations of {rows.shape[1]} numbers, those of {spec.name} have {len(columns)}: "
            f"{spec.layout}"
        )
    if len(rows) < SHORTEST:
        raise ValueError(f"{path} has {len(rows)} observations, expected {SHORTEST} or more; a minute is good")
    times = times.astype(np.float64)
    if not np.isfinite(times).all():
        raise ValueError(f"{path}: a time is not finite")
    back = np.flatnonzero((np.diff(times) <= 0) & (np.diff(episodes) == 0))
    if len(back):
        raise ValueError(
            f"{path}: row {back[0] + 1} has time {times[back[0] + 1]:g} s after {times[back[0]]:g} s; times of an "
            f"episode go up. Take them from one monotonic clock, and number episodes in '{EPISODE}'"
        )
    return Log(times, rows.astype(np.float64), episodes, tuple(notes))


def _bound(path: Path, titles: Sequence[str], columns: Sequence[Column]) -> list[int]:
    """Return where each of the task's columns stands."""
    found = {}
    for i, title in enumerate(titles):
        match = _TITLE.fullmatch(title)
        assert match is not None  # it matches anything
        if match["name"] in found:
            raise ValueError(f"{path} has '{match['name']}' twice")
        found[match["name"]] = (i, match["unit"])
    wanted = {column.name: column for column in columns}
    if found.keys() != wanted.keys():
        missing, more = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
        raise ValueError(f"{path} lacks the columns {missing} and has {more}; expected {list(wanted)}")
    for name, (_, unit) in found.items():
        if unit is not None and unit != wanted[name].unit:
            raise ValueError(f"{path}: '{name}' is in [{unit}], the policy expects [{wanted[name].unit}]; convert it")
    return [found[column.name][0] for column in columns]


def record(robot: Robot, clock: Clock, spec: ControlSpec, seconds: float = 60.0) -> Log:
    """Read a robot once per control period, write nothing to it, and return what was read.

    Raises:
        ValueError: ``seconds`` is too short. ObservationError: an observation is no vector of the task's.
    """
    count = round(seconds / spec.control_dt)
    if count < SHORTEST:
        raise ValueError(f"{seconds:g} s are {count} observations, expected {SHORTEST} or more; a minute is good")
    times, rows, start = np.empty(count), np.empty((count, spec.numbers_dim)), clock.now()
    for i in range(count):
        clock.sleep_until(start + i * spec.control_dt)
        times[i] = clock.now()
        given = robot.read()
        if isinstance(given, TimedObservation):
            times[i], given = given.time, given.values
        rows[i] = observation_vector(given, spec.step_dim, f" of {spec.name}")[: spec.numbers_dim]
    return Log(times, rows, np.zeros(count))


def write_log(path: Path, log: Log, spec: ControlSpec) -> None:
    """Write a log as .npz, with the names of the task's columns, atomically."""
    names = np.array([column.name for column in columns_of(spec)])
    arrays = {"times": log.times, "observations": log.observations, EPISODE: log.episodes, "names": names}

    def write(new: Path) -> None:
        with new.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_atomically(path, write)
