"""What every experiment writes: one JSON of one schema, with the machine it was measured on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from onestride.checkpoint import typed
from onestride.files import CheckpointError, read_json, vacant, versions, write_json
from onestride.machine import commit, machine
from onestride.seals import check_files, read_result, seal

SCHEMA = 2  # a row of planners says its ``Variant``
#: Beside the records of work that several commands share: when the first of them began, and what all took.
SPENT = "spent.json"


class Result(TypedDict):
    """What is read of an experiment's record; it may hold more."""

    schema: int
    experiment: str
    command: str
    config: dict[str, Any]
    seeds: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    notes: list[str]
    files: NotRequired[dict[str, str]]


def read_experiment(path: Path, *, beside: bool = False) -> dict[str, Any]:
    """Return the record of an experiment; beside: what it was made of and lies beside it is held against it too.

    Raises:
        CheckpointError: it, or what lies beside it, is not what was written, or it is no such record.
    """
    found: dict[str, Any] = read_result(path)
    typed(found, Result, path)
    if found["schema"] != SCHEMA:
        raise CheckpointError(f"{path} is of schema {found['schema']}, this version reads {SCHEMA}; evaluate again")
    if beside:
        check_files(path, found.get("files", {}), advice="evaluate again")
    return found


class Experiment:
    """One experiment under way: what it is called, who asked for it, when it began and where its record goes.

    Args:
        out: where the record goes, if it is to be written here.
        spent: the folder of work that goes on where another command left off: what all commands took is kept there.

    Raises:
        FileExistsError: ``out`` is there already; OSError: it cannot be written. Both before any work.
    """

    def __init__(self, name: str, command: str, out: Path | None = None, spent: Path | None = None) -> None:
        if out is not None:
            vacant(out)
        self.name, self.command, self.out = name, command, out
        self._spent = None if spent is None else spent / SPENT
        self._started, self._began = utc(time.time()), time.monotonic()
        self._earlier_s: float | None = 0.0

    def resume(self, begun: bool) -> None:
        """Take over what earlier commands spent; asked while the folder is held, before any work.

        Args:
            begun: whether the folder holds records of earlier commands. Where it does and nothing says how long they
                took, the whole is unknown, and the record has None for it.
        """
        assert self._spent is not None
        if self._spent.exists():
            earlier = read_json(self._spent)
            self._started, self._earlier_s = earlier["started"], earlier["wall_s"]
        elif begun:
            self._earlier_s = None

    def keep(self) -> None:
        """Write down what was spent up to now, so that a kill loses only what came after."""
        assert self._spent is not None
        write_json(self._spent, {"started": self._started, "wall_s": self.wall_s})

    @property
    def wall_s(self) -> float | None:
        """What all commands took up to now [s]; None: nobody knows what earlier ones did."""
        return None if self._earlier_s is None else self._earlier_s + time.monotonic() - self._began

    def record(
        self,
        *,
        config: dict[str, Any],
        seeds: dict[str, Any],
        rows: dict[str, Any],
        notes: list[str],
        ceilings: dict[str, float] | None = None,
        show: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """It is done: its record, written where one was asked for.

        ceilings: of the machine, measured meanwhile. show: gets the record before it is written, since a disk may be
        full.
        """
        made = result(
            self.name, self.command, config=config, seeds=seeds, started=self._started,
            wall_s=self.wall_s, rows=rows, notes=notes,
        )  # fmt: skip
        if self._spent is not None:
            self.keep()
        made["machine"] |= ceilings or {}
        if show is not None:
            show(made)
        if self.out is not None:
            seal(self.out, made)
        return made


def result(
    experiment: str,
    command: str,
    *,
    config: dict[str, Any],
    seeds: dict[str, Any],
    started: str,
    wall_s: float | None,
    rows: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """The record of an experiment; rows are {row: {metric: {"mean", "std", "n", "per_seed"}}}."""
    return {
        "schema": SCHEMA,
        "experiment": experiment,
        "command": command,
        "config": config,
        "seeds": seeds,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
        "started": started,
        "wall_s": wall_s,
        "rows": rows,
        "notes": notes,
    }


def utc(moment: float) -> str:
    """Return a moment [s since the epoch] as a date and time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
