"""What a run can train, by name. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from onestride.files import CheckpointError
from onestride.methods import METHODS
from onestride.registry import UnknownNameError, nearest
from onestride.selectors import SELECTORS

PAIRS, TEACHER, CONTEXTS = "pairs", "teacher", "contexts"


class UntrainedError(CheckpointError):
    """Raised where something has to be trained first. preset: the one to train it with, which may be a guess."""

    def __init__(self, folder: Path, preset: str) -> None:
        method, _, seed = folder.name.rpartition("-")
        what = f"{method} --seeds {seed}" if seed.isdigit() and folder.name not in METHODS else folder.name
        super().__init__(
            f"{folder} is not trained yet, and comes first: `onestride train {what} --preset {preset} --run "
            f"{folder.parent}`"
        )
        self.folder = folder


def trainable() -> list[str]:
    """Return the names that ``onestride train`` takes, beside FILE.py:NAME and MODULE:NAME."""
    return [TEACHER, CONTEXTS, *METHODS, *SELECTORS]


def check_trainable(name: str) -> None:
    """Raise UnknownNameError, a ValueError, where nothing is called so; FILE.py:NAME is looked for later."""
    if name == PAIRS:
        raise UnknownNameError("pairs are made, not trained: `onestride pairs`")
    if ":" not in name and name not in (known := trainable()):
        near = nearest(name, known)
        hint = f" Did you mean '{near}'?" if near else ""
        raise UnknownNameError(
            f"there is nothing called '{name}' to train.{hint} There are: {', '.join(known)}. Name one of your own by "
            "FILE.py:NAME"
        )
