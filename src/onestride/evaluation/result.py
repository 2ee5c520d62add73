"""What every experiment writes: one JSON of one schema, with the machine it was measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from msgspec import UNSET, Struct, UnsetType

from onestride.files import as_record, read_json, vacant, versions
from onestride.manifest import FileEntry, check_digest, check_file, write_manifest

AGAIN = "delete it, and evaluate again"


class Result(Struct, forbid_unknown_fields=True, kw_only=True):
    """The record of an experiment, as ``result`` makes it; an evaluation's has digests of what lies beside it."""

    schema: int
    experiment: str
    command: str
    config: dict[str, Any]
    seeds: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    started: str
    wall_s: float
    rows: dict[str, dict[str, Any]]
    notes: list[str]
    files: dict[str, FileEntry] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


def read_result(path: Path, *, beside: bool = False) -> dict[str, Any]:
    """Return the record of an experiment, after holding it against its digest, where it has one (the first have none).

    beside: what it was made of and lies beside it, too.

    Raises:
        CheckpointError: it, or what lies beside it, is not what was written; the message names the file.
    """
    found = read_json(path)
    said = as_record(found, Result, path)
    if said.files is not UNSET or said.sha256 is not UNSET:
        check_digest(found, path, AGAIN)
    for name, entry in said.files.items() if beside and said.files is not UNSET else ():
        check_file(path.parent / name, entry, AGAIN)
    return found


class Experiment:
    """One under way, from now on: what it is called, who asked for it, when it began and where its record goes.

    Raises:
        FileExistsError: ``out`` is there already; OSError: it cannot be written. Both before any work.
    """

    def __init__(self, name: str, command: str, out: Path | None = None) -> None:
        if out is not None:
            vacant(out)
        self.name, self.command, self.out = name, command, out
        self._started, self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()

    def record(
        self,
        *,
        config: dict[str, Any],
        seeds: dict[str, Any],
        rows: dict[str, Any],
        notes: list[str],
        earlier_s: float = 0.0,
        ceilings: dict[str, float] | None = None,
        show: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """It is done: its record, written where one was asked for.

        earlier_s: that earlier commands spent on it. ceilings: of the machine, measured meanwhile. show: gets the
        record before it is written, since a disk may be full.
        """
        made = result(
            self.name, self.command, config=config, seeds=seeds, started=self._started,
            wall_s=earlier_s + time.monotonic() - self._began, rows=rows, notes=notes,
        )  # fmt: skip
        made["machine"] |= ceilings or {}
        if show is not None:
            show(made)
        if self.out is not None:
            write_manifest(self.out, made)
        return made


def result(
    experiment: str,
    command: str,
    *,
    config: dict[str, Any],
    seeds: dict[str, Any],
    started: str,
    wall_s: float,
    rows: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """The record of an experiment; rows are {row: {metric: {"mean", "std", "n", "per_seed"}}}."""
    return {
        "schema": 1,
        "experiment": experiment,
        "command": command,
        "config": config,
        "seeds": seeds,
        "versions": versions(),
        "machine": machine(),
        "started": started,
        "wall_s": wall_s,
        "rows": rows,
        "notes": notes,
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "system": platform.system(),
    }
