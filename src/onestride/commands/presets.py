"""The presets, listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tyro

from onestride.runs import presets


@dataclass(frozen=True)
class Presets:
    """List the presets with what they are about."""

    doing: ClassVar[str] = "reading the presets"

    word: tyro.conf.Positional[str] = ""
    """Only those whose name has it, such as hopper or small."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        names = [name for name in presets.PRESETS if self.word in name]
        if not names:
            raise ValueError(f"no preset's name has '{self.word}'; `onestride presets` lists all")
        width = max(map(len, names))
        for name in names:
            print(f"{name:{width}}  {presets.load(name).about}")
