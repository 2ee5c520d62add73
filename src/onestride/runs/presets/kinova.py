"""The arm's presets: episodes of its planner, a teacher, DNK and what it is compared with (DNK, Table II)."""

from __future__ import annotations

from dataclasses import replace

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import EvaluateConfig, PairsConfig
from onestride.runs.stage import Preset, distilled
from onestride.training.config import TrainConfig

COMPARED = ("dnk", "kdm", "kdm-f")


def demo() -> Preset:
    """Minutes on two cores, install aside; teacher and DNK."""
    training = TrainConfig(steps=2_200, batch_size=512, learning_rate=1e-3)
    return Preset(
        about="the whole path in 10 to 25 minutes on two CPU cores",
        task="kinova",
        amount=6_000,
        stages=distilled(
            teacher=TeacherConfig(),
            teacher_training=training,
            pairs=PairsConfig(count=40_960, shards=4),
            student=KoopmanConfig(),
            student_training=training,
        ),
        evaluate=EvaluateConfig(trials=8),
    )


def full() -> Preset:
    """About an hour and a half on two cores; makes the committed results: three students, three seeds each."""
    return Preset(
        about="the committed results: three operators, three seeds, 50 trials (an hour and a half on two CPU cores)",
        task="kinova",
        amount=20_000,
        stages=distilled(
            teacher=TeacherConfig(width=768),
            teacher_training=TrainConfig(steps=7_000, batch_size=512, learning_rate=1e-3),
            pairs=PairsConfig(count=122_880, shards=12),
            student=KoopmanConfig(),
            student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3),
            methods=COMPARED,
            seeds=(0, 1, 2),
        ),
        evaluate=EvaluateConfig(),
    )


def paper() -> Preset:
    """The paper's sizes: 500 000 pairs, 200 epochs of batches of 64 at 3e-4, a temporal U-Net. For a GPU."""
    pairs = PairsConfig(count=500_000, shards=64)
    return Preset(
        about="the paper's sizes, with the temporal U-Net teacher (a GPU's work: days on two CPU cores)",
        task="kinova",
        amount=50_000,
        stages=distilled(
            teacher=TeacherConfig(network="unet"),
            teacher_training=TrainConfig(
                steps=1_000_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5, ema_decay=0.9999
            ),
            pairs=pairs,
            student=KoopmanConfig(hidden=1024),
            student_training=TrainConfig(
                steps=200 * pairs.count // 64, batch_size=64, learning_rate=3e-4, ema_decay=0.9999
            ),
            methods=COMPARED,
            seeds=(0, 1, 2, 3, 4),
        ),
        evaluate=EvaluateConfig(),
    )


def tiny() -> Preset:
    """Seconds: every stage runs, nothing is learnt. For tests and for a first look at the files."""
    training = replace(TRAINING, steps=30)
    return Preset(
        about="every stage in seconds; the policies are useless",
        task="kinova",
        amount=64,
        stages=distilled(
            teacher=TeacherConfig(width=32, blocks=1, n_steps=4),
            teacher_training=training,
            pairs=PAIRS,
            student=KoopmanConfig(latent_dim=32, hidden=32, gain_hidden=16),
            student_training=training,
            methods=("dnk", "kdm"),
        ),
        unnamed=UNNAMED,
        evaluate=EvaluateConfig(trials=2, timeout=1.0),
    )
