"""The presets of PushT: a state action-chunk diffusion policy and what is distilled from it."""

from __future__ import annotations

from dataclasses import replace

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.networks.vision import VisionConfig
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import Preset, Stage, distilled
from onestride.training.config import TrainConfig


def small() -> Preset:
    """PushT on two CPU cores: six hundred demonstrations, residual MLPs, ten DDIM steps."""
    return Preset(
        about="PushT from states, action chunks of 16 of which 8 are carried out, sized for two CPU cores",
        task="pusht",
        amount=600,
        ranked_by="medoid",
        stages=(
            Stage(name="medoid", role="selector"),
            *distilled(
                teacher=TeacherConfig(width=512, blocks=3, n_steps=50, sample_steps=10, first_action_weight=1.0),
                teacher_training=TrainConfig(steps=12_000, batch_size=256, learning_rate=1e-3, weight_decay=1e-6),
                teacher_ranked_by="medoid",
                pairs=PairsConfig(count=102_400, shards=4, temperatures=(1.0,), probabilities=(1.0,)),
                student=KoopmanConfig(weighted=False, first_action_weight=1.0, later_action_weight=1.0),
                student_training=TrainConfig(steps=8_000, batch_size=512, learning_rate=1e-3),
                ranked_by="medoid",
            ),
        ),
        evaluate=ReturnsConfig(episodes=50, width=10, teacher_seeds=1, crossed=(), mixture=(), first_action=()),
        hours=1.0,
    )


def tiny() -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return Preset(
        about="every stage in a minute; the policies are useless",
        task="pusht",
        amount=2,
        ranked_by="medoid",
        stages=(
            Stage(name="medoid", role="selector"),
            *distilled(
                teacher=TeacherConfig(width=16, blocks=1, n_steps=4, first_action_weight=1.0),
                teacher_training=TRAINING,
                teacher_ranked_by="medoid",
                pairs=replace(PAIRS, temperatures=(1.0,), probabilities=(1.0,)),
                student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8, weighted=False),
                student_training=TRAINING,
                ranked_by="medoid",
            ),
        ),
        unnamed=UNNAMED,
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3, crossed=()),
    )


def image_small() -> Preset:
    """PushT seen by a camera, on two CPU cores: a small encoder, trained with the teacher and kept by the student."""
    states = small()
    teacher = TrainConfig(steps=40_000, batch_size=64, learning_rate=1e-3, weight_decay=1e-6)
    preset = states.with_stage("teacher", training=teacher, vision=VisionConfig(images=1))
    return replace(
        preset,
        about="PushT from images of 96 x 96 and the agent's position, sized for two CPU cores",
        task="pusht-image",
        amount=300,
        evaluate=replace(states.evaluate, width=5, states=16),
        hours=2.0,
    )


def image_tiny() -> Preset:
    """Every stage in a minute: nothing is learnt."""
    vision = VisionConfig(keypoints=4, features=4)
    training = TrainConfig(steps=4, batch_size=16)
    preset = tiny().with_stage("teacher", training=training, vision=vision)
    pairs = PairsConfig(count=256, shards=2, temperatures=(1.0,), probabilities=(1.0,))
    unnamed = replace(UNNAMED, training=training)
    return replace(preset.with_stage("pairs", config=pairs), task="pusht-image", unnamed=unnamed)
