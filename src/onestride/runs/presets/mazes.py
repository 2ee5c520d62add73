"""The presets of the point mazes: demonstrations, a teacher, DNK, and how often they reach the goal."""

from __future__ import annotations

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.pairs import PairsConfig
from onestride.runs.settings import ReturnsConfig
from onestride.runs.stage import Preset, distilled
from onestride.training.config import TrainConfig


def small() -> Preset:
    """The U-shaped maze on one CPU core: residual MLPs, a thousand demonstrations."""
    return Preset(
        about="start and goal known in the plan: the U-shaped point maze, sized for one CPU core",
        task="pointmaze-umaze",
        amount=1_000,
        stages=distilled(
            teacher=TeacherConfig(width=384, blocks=3, n_steps=20),
            teacher_training=TrainConfig(steps=4_000, batch_size=256, learning_rate=1e-3),
            pairs=PairsConfig(count=40_960, shards=4),
            student=KoopmanConfig(latent_dim=256, hidden=384, first_action_weight=50.0),
            student_training=TrainConfig(steps=4_000, batch_size=256, learning_rate=1e-3),
        ),
        evaluate=ReturnsConfig(episodes=20, width=10, teacher_seeds=1),
    )


def tiny() -> Preset:
    """Every stage in seconds: nothing is learnt."""
    training = TrainConfig(steps=20, batch_size=64, precision="32-true", checkpoint_every=1.0)
    return Preset(
        about="every stage in seconds; the policies are useless",
        task="pointmaze-umaze",
        amount=8,
        stages=distilled(
            teacher=TeacherConfig(width=16, blocks=1, n_steps=4),
            teacher_training=training,
            pairs=PairsConfig(count=2_048, shards=2),
            student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
            student_training=training,
        ),
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3),
    )
