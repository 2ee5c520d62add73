"""The preset that made a run's data, and those that trained its planners. Nothing here imports torch.

Later commands take the data's where none is given; an evaluation says the planners'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onestride.files import METADATA, CheckpointError, read_json

#: In the data's metadata and in what a checkpoint says of its training; no part of what it was made from.
PRESET = "preset"


def preset_of_run(run: Path) -> str | None:
    """Return the name of the preset that made a run's data; None: there are none, or they were made without one."""
    path = run / "data" / METADATA
    if not path.is_file():
        return None
    try:
        found = read_json(path, dict[str, Any]).get(PRESET)
    except CheckpointError:  # the command that reads the data says what is wrong with them
        return None
    return found if isinstance(found, str) else None


def note_of(preset: str) -> dict[str, str]:
    """Return what data or a checkpoint that a preset made say of it; "": nothing."""
    return {PRESET: preset} if preset else {}


def learns_nothing(preset: str) -> bool:
    """Return whether a preset is there to try commands: its budget, the last word of its name, is tiny."""
    return preset.rpartition("-")[2] == "tiny"
