"""What every experiment writes: one JSON of one schema, with the machine it was measured on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from onestride.cores import usable_cores
from onestride.files import vacant, versions, write_json


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
            write_json(self.out, made)
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
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "system": platform.system(),
    }
