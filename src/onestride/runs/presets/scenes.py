"""The presets of OGBench's scene: PushT's, a state action-chunk diffusion policy and what is distilled from it."""

from __future__ import annotations

from dataclasses import replace

from onestride.runs.presets import pusht
from onestride.runs.stage import Preset

ABOUT = {
    "scene-drawer": "a drawer",
    "scene-window": "a window",
    "scene": "a drawer and a window with the buttons that lock them",
}


def small(task: str) -> Preset:
    """A thousand demonstrations, on one CPU core."""
    about = f"a UR5e and {ABOUT[task]}: action chunks of 16 of which 8 are carried out, sized for one CPU core"
    return replace(pusht.small(), about=about, task=task, amount=1_000)


def tiny(task: str) -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return replace(pusht.tiny(), task=task)
