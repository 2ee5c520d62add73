"""PushT as studies of score distillation have it: a diffusion policy of 100 steps, and OneDP's one-step students."""

from __future__ import annotations

from dataclasses import replace

from onestride.methods.diffusion_planner import DP, TeacherConfig
from onestride.runs.presets import pusht
from onestride.runs.stage import TEACHER, Preset, Stage
from onestride.training.config import TrainConfig

#: Of the teacher's training steps, and rows of its batches, that a student is distilled for: the paper's share at most.
SHARE = 0.1
#: A decision of the teacher is so many steps of DDIM; its 100 steps of DDPM are as many calls.
STEPS = 10
STUDENTS = ("onedp-s", "onedp-d")


def small() -> Preset:
    """PushT on two CPU cores, with a teacher of 100 levels."""
    return with_onedp(pusht.small())


def tiny() -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return with_onedp(pusht.tiny())


def lasting(training: TrainConfig, share: float) -> TrainConfig:
    """Return training that takes this share of another one's steps."""
    return replace(training, steps=max(int(share * training.steps), 1), warmup=min(training.warmup, 100))


def with_onedp(preset: Preset) -> Preset:
    """Return a task's preset whose teacher is a diffusion policy of the same size and training, with its students.

    Its plans lie in -1 ... 1. OneDP-S is ranked as the teacher is, OneDP-D has one plan. A U-Net says the noise, as
    Diffusion Policy's does; an MLP, which has no skip from its input to its output, says the plan.
    """
    teacher = preset.stage(TEACHER)
    size, training = teacher.config, teacher.training
    assert isinstance(size, TeacherConfig)
    assert training is not None
    config = replace(
        DP.config, network=size.network, width=size.width, blocks=size.blocks, film_unet=size.film_unet,
        unet_width=size.unet_width, unet_multipliers=size.unet_multipliers, solver="ddim", sample_steps=STEPS,
        prediction="x0" if size.network == "mlp" else DP.config.prediction,
    )  # fmt: skip
    students = (
        Stage(
            name=name, role="method", training=lasting(training, SHARE),
            selector=preset.ranked_by if name == "onedp-s" else None,
        )
        for name in STUDENTS
    )  # fmt: skip
    taught = preset.with_stage(TEACHER, of=DP.name, config=config)
    about = f"{preset.about}; the teacher is a diffusion policy of 100 steps, distilled by its score"
    return replace(taught, about=about, stages=(*taught.stages, *students), hours=1.2 * preset.hours)
