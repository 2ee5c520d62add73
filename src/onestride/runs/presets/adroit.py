"""The presets of the Adroit hand's four tasks, of data that is half an expert's with noise and half its clone's."""

from __future__ import annotations

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.presets.baselines import FAMILIES, baselines
from onestride.runs.presets.locomotion import critic_training, ranking
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import Preset, distilled
from onestride.selectors.iql import IQLConfig
from onestride.selectors.returns import ReturnConfig
from onestride.training.config import TrainConfig

COMPARED = ("dnk", "mlp")
SEEDS = (0, 1, 2)  # of training
FAMILY = FAMILIES["adroit"]


def small(task: str) -> Preset:
    """One of the hand's tasks on two CPU cores: residual MLPs, a thousand episodes, three seeds of every student."""
    return Preset(
        about=f"{task} from demonstrations and a clone's rollouts, sized for two CPU cores",
        task=task,
        amount=200_000,
        ranked_by="iql",
        stages=(
            *ranking(
                ReturnConfig(),
                TrainConfig(steps=8_000, batch_size=512, weight_decay=1e-4),
                IQLConfig(expectile=FAMILY.expectile),
                critic_training(40_000),
            ),
            *distilled(
                teacher=TeacherConfig(width=512, blocks=4, n_steps=20, solver="ddim", sample_steps=10),
                teacher_training=TrainConfig(steps=6_000, batch_size=512, learning_rate=1e-3),
                teacher_ranked_by="iql",
                pairs=PairsConfig(count=204_800, shards=8),
                student=KoopmanConfig(first_action_weight=50.0),
                student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=2e-3),
                methods=COMPARED,
                seeds=SEEDS,
                ranked_by="iql",
            ),
            *baselines(TrainConfig(steps=8_000, batch_size=512, learning_rate=1e-3), FAMILY, seeds=SEEDS),
        ),
        evaluate=ReturnsConfig(episodes=20, teacher_seeds=1),
        hours=2.0,  # judged from the time of a step of every stage
    )


def tiny(task: str) -> Preset:
    """Every stage in a minute: nothing is learnt."""
    return Preset(
        about="every stage in a minute; the policies are useless",
        task=task,
        amount=2_000,
        ranked_by="iql",
        stages=(
            *ranking(
                ReturnConfig(width=16, blocks=1, n_steps=4),
                TRAINING,
                IQLConfig(hidden=16, expectile=FAMILY.expectile),
                TRAINING,
            ),
            *distilled(
                teacher=TeacherConfig(width=16, blocks=1, n_steps=4, solver="ddim"),
                teacher_training=TRAINING,
                teacher_ranked_by="iql",
                pairs=PAIRS,
                student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
                student_training=TRAINING,
                ranked_by="iql",
            ),
            *baselines(TRAINING, FAMILY),
        ),
        unnamed=UNNAMED,
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3, crossed=()),
        hours=0.05,
    )
