"""Presets: everything a run needs, chosen together. A preset is a Python function; nothing is set twice."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from onestride.diffusion.planner import TeacherConfig
from onestride.students.koopman import OPERATORS, KoopmanConfig, Operator
from onestride.students.pairs import PairsConfig
from onestride.training import TrainConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """How policies are compared."""

    trials: int = 50
    scene_seed: int = 0
    clock: Literal["charged", "real"] = "charged"  # simulated time pays for each decision, or wall time
    timeout: float = 60.0  # of a trial [s]

    def __post_init__(self) -> None:
        if self.clock not in ("charged", "real"):
            raise ValueError(f"evaluate.clock is {self.clock!r}; there are charged, real")
        if self.trials < 1:
            raise ValueError(f"evaluate.trials is {self.trials}, expected at least 1")


@dataclass(frozen=True)
class Preset:
    """One whole experiment on the arm."""

    about: str
    episodes: int
    teacher: TeacherConfig
    teacher_training: TrainConfig
    pairs: PairsConfig
    student: KoopmanConfig
    student_training: TrainConfig
    evaluate: EvaluateConfig
    operators: tuple[Operator, ...] = ("dnk",)
    seeds: tuple[int, ...] = (0,)  # of student training
    data_seed: int = 0


def demo() -> Preset:
    """Minutes on two cores, install aside; teacher and DNK."""
    return Preset(
        about="the whole path in under 12 minutes on two CPU cores",
        episodes=6_000,
        teacher=TeacherConfig(),
        teacher_training=TrainConfig(steps=2_200, batch_size=512, learning_rate=1e-3),
        pairs=PairsConfig(count=40_960, shards=4),
        student=KoopmanConfig(),
        student_training=TrainConfig(steps=2_200, batch_size=512, learning_rate=1e-3),
        evaluate=EvaluateConfig(trials=8),
    )


def full() -> Preset:
    """About an hour and a half on two cores; makes the committed results: three students, three seeds each."""
    return Preset(
        about="the committed results: three operators, three seeds, 50 trials (an hour and a half on two CPU cores)",
        episodes=20_000,
        teacher=TeacherConfig(width=768),
        teacher_training=TrainConfig(steps=7_000, batch_size=512, learning_rate=1e-3),
        pairs=PairsConfig(count=122_880, shards=12),
        student=KoopmanConfig(),
        student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3),
        evaluate=EvaluateConfig(),
        operators=OPERATORS,
        seeds=(0, 1, 2),
    )


def paper() -> Preset:
    """The paper's sizes: 500 000 pairs, 200 epochs of batches of 64 at 3e-4, a temporal U-Net. For a GPU."""
    pairs = PairsConfig(count=500_000, shards=64)
    return Preset(
        about="the paper's sizes, with the temporal U-Net teacher (a GPU's work: days on two CPU cores)",
        episodes=50_000,
        teacher=TeacherConfig(network="unet"),
        teacher_training=TrainConfig(
            steps=1_000_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5, ema_decay=0.9999
        ),
        pairs=pairs,
        student=KoopmanConfig(hidden=1024),
        student_training=TrainConfig(
            steps=200 * pairs.count // 64, batch_size=64, learning_rate=3e-4, ema_decay=0.9999
        ),
        evaluate=EvaluateConfig(),
        operators=OPERATORS,
        seeds=(0, 1, 2, 3, 4),
    )


def tiny() -> Preset:
    """Seconds: every stage runs, nothing is learnt. For tests and for a first look at the files."""
    training = TrainConfig(steps=30, batch_size=64, precision="32-true", checkpoint_every=1.0)
    return Preset(
        about="every stage in seconds; the policies are useless",
        episodes=64,
        teacher=TeacherConfig(width=32, blocks=1, n_steps=4),
        teacher_training=training,
        pairs=PairsConfig(count=2_048, shards=2),
        student=KoopmanConfig(latent_dim=32, hidden=32, gain_hidden=16),
        student_training=training,
        evaluate=EvaluateConfig(trials=2, timeout=1.0),
        operators=("dnk", "kdm"),
    )


PRESETS: dict[str, Callable[[], Preset]] = {"demo": demo, "full": full, "paper": paper, "tiny": tiny}


def load(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: there is none; the message names the nearest and all of them.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no preset '{name}'.{hint} There are: {', '.join(PRESETS)}")
    return PRESETS[name]()


def student_of(preset: Preset, operator: Operator, seed: int) -> tuple[KoopmanConfig, TrainConfig]:
    """The preset's student with another operator and training seed, all else equal."""
    return replace(preset.student, operator=operator), replace(preset.student_training, seed=seed)
