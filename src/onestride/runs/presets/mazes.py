"""The presets of the mazes: demonstrations, a teacher, DNK, and how often they reach the goal."""

from __future__ import annotations

from dataclasses import dataclass

from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import Preset, Stage, distilled
from onestride.training.config import TrainConfig

MEDOID = "medoid"  # ranks plans of ant mazes, which have no selector of their own


@dataclass(frozen=True)
class Size:
    """What differs between the mazes: what they are called, how many demonstrations, and how long training takes.

    hours: of the whole preset on one core, judged by steps and width from the U-shaped point maze's stages.
    """

    said: str
    amount: int
    width: int
    steps: int
    hours: float


SIZES = {
    "pointmaze-umaze": Size("the U-shaped point maze, start and goal known in the plan", 2_000, 384, 6_000, 0.3),
    "pointmaze-medium": Size("the medium point maze, start and goal known in the plan", 3_000, 512, 8_000, 0.6),
    "pointmaze-large": Size("the large point maze, start and goal known in the plan", 3_000, 512, 8_000, 0.9),
    "antmaze-umaze": Size("an ant in the U-shaped maze, its goal the context", 1_000, 512, 8_000, 0.7),
    "antmaze-medium": Size("an ant in the medium maze, its goal the context", 2_000, 512, 8_000, 1.0),
    "antmaze-large": Size("an ant in the large maze, its goal the context", 2_000, 512, 8_000, 1.2),
}


def small(task: str) -> Preset:
    """One maze on one CPU core, with residual MLPs: every stage takes at most about twenty minutes."""
    size, ranked_by = SIZES[task], _ranked_by(task)
    training = TrainConfig(steps=size.steps, batch_size=256, learning_rate=1e-3)
    return Preset(
        about=f"{size.said}, sized for one CPU core",
        task=task,
        amount=size.amount,
        ranked_by=ranked_by,
        stages=(
            *_selectors(ranked_by),
            *distilled(
                teacher=TeacherConfig(width=size.width, blocks=3, n_steps=20),
                teacher_training=training,
                teacher_ranked_by=ranked_by,
                pairs=PairsConfig(count=40_960, shards=4),
                student=KoopmanConfig(latent_dim=256, hidden=size.width, first_action_weight=50.0),
                student_training=training,
                ranked_by=ranked_by,
            ),
        ),
        evaluate=ReturnsConfig(episodes=50, width=10, teacher_seeds=1, crossed=(), mixture=(), first_action=()),
        hours=size.hours,
    )


def tiny(task: str) -> Preset:
    """Every stage in seconds: nothing is learnt."""
    ranked_by = _ranked_by(task)
    return Preset(
        about="every stage in seconds; the policies are useless",
        task=task,
        amount=8,
        ranked_by=ranked_by,
        stages=(
            *_selectors(ranked_by),
            *distilled(
                teacher=TeacherConfig(width=16, blocks=1, n_steps=4),
                teacher_training=TRAINING,
                teacher_ranked_by=ranked_by,
                pairs=PAIRS,
                student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
                student_training=TRAINING,
                ranked_by=ranked_by,
            ),
        ),
        unnamed=UNNAMED,
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3, crossed=()),
    )


def _ranked_by(task: str) -> str | None:
    return None if task.startswith("pointmaze") else MEDOID


def _selectors(ranked_by: str | None) -> tuple[Stage, ...]:
    return () if ranked_by is None else (Stage(name=ranked_by, role="selector"),)
