"""The presets of OGBench's cubes: PushT's, a state action-chunk diffusion policy and what is distilled from it."""

from __future__ import annotations

from dataclasses import replace

from onestride.runs.presets import pusht
from onestride.runs.stage import Preset
from onestride.training.config import TrainConfig

ABOUT = {"cube-single": "one cube", "cube-double": "two cubes, which also change places and are stacked"}


def small(task: str) -> Preset:
    """One cube or two on one CPU core: a thousand demonstrations of each cube, and longer training for two."""
    double, preset = task == "cube-double", pusht.small()
    training = replace(preset.stage("teacher").training or TrainConfig(), steps=20_000 if double else 12_000)
    return replace(
        preset.with_stage("teacher", training=training),
        about=f"a UR5e and {ABOUT[task]}: action chunks of 16 of which 8 are carried out, sized for one CPU core",
        task=task,
        amount=2_000 if double else 1_000,
    )


def tiny(task: str) -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return replace(pusht.tiny(), task=task)
