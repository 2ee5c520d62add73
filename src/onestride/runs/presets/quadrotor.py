"""The quadrotor's presets: episodes of its planner, a teacher, DNK, and trials in a room with pillars and boxes."""

from __future__ import annotations

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import EvaluateConfig, PairsConfig
from onestride.runs.stage import Preset, distilled
from onestride.training.config import TrainConfig


def small() -> Preset:
    """A quarter of an hour of one CPU core for each of teacher, pairs and student."""
    return Preset(
        about="a quadrotor flies past pillars and boxes, sized for one CPU core",
        task="quadrotor",
        amount=4_000,
        stages=distilled(
            teacher=TeacherConfig(width=512, blocks=3, n_steps=20),
            teacher_training=TrainConfig(steps=8_000, batch_size=256, learning_rate=1e-3),
            pairs=PairsConfig(count=61_440, shards=6),
            student=KoopmanConfig(latent_dim=256, hidden=512, first_action_weight=50.0),
            student_training=TrainConfig(steps=8_000, batch_size=256, learning_rate=1e-3),
        ),
        evaluate=EvaluateConfig(trials=50, timeout=15.0),
        hours=1.0,  # judged from a quarter of an hour for each of teacher, pairs and student
    )


def tiny() -> Preset:
    """Every stage in seconds: nothing is learnt."""
    return Preset(
        about="every stage in seconds; the policies are useless",
        task="quadrotor",
        amount=200,
        stages=distilled(
            teacher=TeacherConfig(width=16, blocks=1, n_steps=4),
            teacher_training=TRAINING,
            pairs=PAIRS,
            student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
            student_training=TRAINING,
        ),
        unnamed=UNNAMED,
        evaluate=EvaluateConfig(trials=2, timeout=1.0),
    )
