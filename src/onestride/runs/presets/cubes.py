"""The presets of OGBench's cubes: PushT's, a state action-chunk diffusion policy and what is distilled from it."""

from __future__ import annotations

from dataclasses import replace

from onestride.runs.presets import pusht
from onestride.runs.stage import Preset
from onestride.training.config import TrainConfig

ABOUT = {"cube-single": "one cube", "cube-double": "two cubes, which also change places and are stacked"}


def small(task: str) -> Preset:
    """One cube or two on one CPU core: a thousand demonstrations of each cube, longer training than PushT's."""
    return replace(
        pusht.small().with_stage(
            "teacher", training=TrainConfig(steps=20_000, batch_size=256, learning_rate=1e-3, weight_decay=1e-6)
        ),
        about=f"a UR5e and {ABOUT[task]}: action chunks of 16 of which 8 are carried out, sized for one CPU core",
        task=task,
        amount=2_000 if task == "cube-double" else 1_000,
    )


def tiny(task: str) -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return replace(pusht.tiny(), task=task)
