"""Full presets of families whose papers print no sizes: a small preset with the field's networks and training.

Teachers are Diffuser's U-Net where plans hold states (Janner et al. 2022), and Diffusion Policy's at LeRobot's size
where they are action chunks; cameras are seen by a ResNet-18. None of these was trained yet: hours are judged.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.networks.unet1d import FilmUNetConfig
from onestride.networks.vision import VisionConfig
from onestride.runs.settings import EvaluateConfig, PairsConfig
from onestride.runs.stage import TEACHER, Preset, Stage
from onestride.training.config import TrainConfig

SEEDS = (0, 1, 2)
EPISODES = 100
PAIRS = PairsConfig(count=500_000, shards=64)
#: Diffusion Policy's channels; LeRobot's defaults are the same.
CHANNELS = (512, 1024, 2048)
UNET = TrainConfig(steps=500_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5, ema_decay=0.9999)
CHUNK_UNET = TrainConfig(steps=200_000, batch_size=256, learning_rate=1e-4, weight_decay=1e-6, ema_decay=0.9999)
STUDENT = TrainConfig(steps=500_000, batch_size=256, learning_rate=3e-4, ema_decay=0.9999)
#: Selectors and what is regressed: so many times a small preset's steps.
LONGER = 10
HOURS = 60.0


def full(small: Preset, *, multipliers: tuple[int, ...] | None = None) -> Preset:
    """Return a small preset in the field's sizes, with three seeds of everything but its teacher and selectors.

    multipliers: of a Diffuser's U-Net, whose horizon is halved once less than there are of them; None: an action
        chunk's, by Diffusion Policy's network.
    """
    teacher = small.stage(TEACHER)
    assert isinstance(teacher.config, TeacherConfig)
    sighted = teacher.vision is not None
    if multipliers is None:
        film = FilmUNetConfig(down_dims=CHANNELS)
        network, training = replace(teacher.config, network="film-unet", film_unet=film), CHUNK_UNET
    else:
        network, training = replace(teacher.config, network="unet", unet_multipliers=multipliers), UNET
    preset = small.with_stage(
        TEACHER, config=network, training=replace(training, batch_size=64) if sighted else training,
        vision=VisionConfig(network="resnet18") if sighted else None,
    )  # fmt: skip
    stages = (_larger(stage) if stage.name != TEACHER else stage for stage in preset.stages)
    evaluate: Any = preset.evaluate
    episodes = {"trials": EPISODES} if isinstance(evaluate, EvaluateConfig) else {"episodes": EPISODES}
    about, _, _ = preset.about.partition(", sized for")
    return replace(
        preset,
        about=f"{about}, at the field's sizes (a GPU's work: weeks on two CPU cores)",
        stages=tuple(stages),
        evaluate=replace(evaluate, **episodes),
        hours=HOURS,
    )


def _larger(stage: Stage) -> Stage:
    if stage.role == "pairs":
        drawn = {f.name: getattr(stage.config, f.name) for f in fields(PAIRS) if f.name not in ("count", "shards")}
        return replace(stage, config=replace(PAIRS, **drawn))
    if isinstance(stage.config, KoopmanConfig):
        return replace(stage, config=replace(stage.config, hidden=1024), training=STUDENT, seeds=SEEDS)
    if stage.training is None:
        return stage
    training = replace(stage.training, steps=LONGER * stage.training.steps)
    return replace(stage, training=training, seeds=SEEDS if stage.role == "method" else stage.seeds)
