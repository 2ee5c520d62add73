"""The preset that made a run's data: later commands take it where none is given. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onestride.files import METADATA, CheckpointError, read_json

#: In the data's metadata, and no part of what a checkpoint says that it was made from.
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
    """Return what the metadata of data that a preset made say of it; "": nothing."""
    return {PRESET: preset} if preset else {}
