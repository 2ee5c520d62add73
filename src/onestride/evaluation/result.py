"""What every experiment writes: one JSON of one schema, with the machine it was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from onestride.files import versions


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
