"""Presets: everything a run needs, chosen together. A preset is a Python function; nothing is set twice."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from onestride.methods.edm import EDMConfig
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.selectors.returns import ReturnConfig
from onestride.selectors.iql import IQLConfig
from onestride.selectors.sampling import Sampling
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.methods.consistency import ConsistencyConfig
from onestride.methods.koopman import KoopmanConfig, Operator
from onestride.runs.pairs import PairsConfig
from onestride.training.loop import TrainConfig


@dataclass(frozen=True)
class Selectors:
    """What is learnt beside the teacher where a task has no selector of its own."""

    returns: ReturnConfig
    returns_training: TrainConfig
    critic: IQLConfig
    critic_training: TrainConfig
    judged_rows: int = 1  # of a plan, by the critic
    sampling: Sampling | None = None  # of the candidates it ranks; None: as in training
    guidance: float = 0.0  # of the teacher by the return model, per standardised return


@dataclass(frozen=True)
class Consistency:
    """The paper's CT and CD rows: action-level policies, which are plans of horizon 1."""

    edm: EDMConfig  # CD's teacher
    edm_training: TrainConfig
    student: ConsistencyConfig
    student_training: TrainConfig
    methods: tuple[Literal["ct", "cd"], ...] = ("ct", "cd")
    horizon: int = 1


@dataclass(frozen=True)
class Preset:
    """One whole experiment: ``amount`` is episodes of the arm's planner, or steps of behaviour policies."""

    about: str
    amount: int
    teacher: TeacherConfig
    teacher_training: TrainConfig
    pairs: PairsConfig
    student: KoopmanConfig
    student_training: TrainConfig
    evaluate: EvaluateConfig | ReturnsConfig
    operators: tuple[Operator, ...] = ("dnk",)
    seeds: tuple[int, ...] = (0,)  # of student training
    data_seed: int = 0
    task: str = "kinova"
    selectors: Selectors | None = None
    consistency: Consistency | None = None
    ablation_student: KoopmanConfig | None = None  # from which a piece is taken away; None: the student
    ablation_training: TrainConfig | None = None  # of every variant
    hours: float = 0.0  # measured, or judged from it, on the machine that `about` names
    ablation_hours: float = 0.0


def demo() -> Preset:
    """Minutes on two cores, install aside; teacher and DNK."""
    return Preset(
        about="the whole path in 10 to 25 minutes on two CPU cores",
        amount=6_000,
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
        amount=20_000,
        teacher=TeacherConfig(width=768),
        teacher_training=TrainConfig(steps=7_000, batch_size=512, learning_rate=1e-3),
        pairs=PairsConfig(count=122_880, shards=12),
        student=KoopmanConfig(),
        student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3),
        evaluate=EvaluateConfig(),
        operators=("dnk", "kdm", "kdm-f"),
        seeds=(0, 1, 2),
    )


def paper() -> Preset:
    """The paper's sizes: 500 000 pairs, 200 epochs of batches of 64 at 3e-4, a temporal U-Net. For a GPU."""
    pairs = PairsConfig(count=500_000, shards=64)
    return Preset(
        about="the paper's sizes, with the temporal U-Net teacher (a GPU's work: days on two CPU cores)",
        amount=50_000,
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
        operators=("dnk", "kdm", "kdm-f"),
        seeds=(0, 1, 2, 3, 4),
    )


def tiny() -> Preset:
    """Seconds: every stage runs, nothing is learnt. For tests and for a first look at the files."""
    training = TrainConfig(steps=30, batch_size=64, precision="32-true", checkpoint_every=1.0)
    return Preset(
        about="every stage in seconds; the policies are useless",
        amount=64,
        teacher=TeacherConfig(width=32, blocks=1, n_steps=4),
        teacher_training=training,
        pairs=PairsConfig(count=2_048, shards=2),
        student=KoopmanConfig(latent_dim=32, hidden=32, gain_hidden=16),
        student_training=training,
        evaluate=EvaluateConfig(trials=2, timeout=1.0),
        operators=("dnk", "kdm"),
    )


# ---------------------------------------------------------------- locomotion

OPERATORS_AND_CONTROL: tuple[Operator, ...] = ("dnk", "kdm", "kdm-f", "mlp")


def locomotion(body: str) -> Preset:
    """Table I on two CPU cores: residual MLPs, a million steps of data, three seeds of every student.

    Not the paper's: no guidance, since CleanDiffuser's weight on HalfCheetah is next to nothing and its gradients are
    not, and a deterministic teacher, so that the row is what its students are distilled from.
    """
    wide = body != "halfcheetah"  # plans of 32 rows instead of 4
    student = TrainConfig(steps=2_000, batch_size=2_048, learning_rate=4e-3, ema_decay=0.995, optimizer="muon")
    if body == "walker2d":  # as its results were made; on Hopper Muon is nearer in two thirds of the time
        student = TrainConfig(steps=16_000, batch_size=512, learning_rate=4e-3)
    action = TrainConfig(steps=4_000, batch_size=512, learning_rate=5e-4)
    return Preset(
        about=f"the paper's Table I on {body}, sized for two CPU cores",
        task=f"{body}-v5",
        amount=1_000_000,
        selectors=Selectors(
            returns=ReturnConfig(),
            returns_training=TrainConfig(steps=8_000, batch_size=512, weight_decay=1e-4),
            # Hopper's medium behaviour falls after 300 steps: at 0.99, which forgets in 100, it is worth as much as the
            # expert's (262 against 276 in the data's episodes), at 0.997 less (688 against 1069).
            critic=IQLConfig(discount=0.997) if body == "hopper" else IQLConfig(),
            critic_training=critic_training(150_000),
            judged_rows=1 if wide else 4,
            # Both behaviours begin at an episode's first state, and from training's temperatures few candidates follow
            # the better one; a hot candidate that does is worth far more than the margin there, and seldom later.
            sampling=None if wide else Sampling((0.3, 0.5, 0.7, 1.0), (0.25,) * 4, margin=8.0),
        ),
        teacher=TeacherConfig(width=768 if wide else 512, blocks=4, n_steps=20, solver="ddim"),
        teacher_training=TrainConfig(steps=16_000 if wide else 24_000, batch_size=512, learning_rate=1e-3),
        pairs=PairsConfig(count=512_000, shards=16),
        # The first action is carried out, and judged first. With the paper's 1.5 it has 3 % of what a plan of 32 rows
        # weighs in the loss, with 50 half.
        student=KoopmanConfig(first_action_weight=50.0 if wide else 8.0),
        student_training=student,
        consistency=Consistency(
            edm=EDMConfig(width=256, blocks=3),
            edm_training=action,
            student=ConsistencyConfig(width=256, blocks=3),
            student_training=action,
        ),
        evaluate=ReturnsConfig(teacher_seeds=1),
        operators=OPERATORS_AND_CONTROL,
        seeds=(0, 1, 2),
        ablation_student=KoopmanConfig(first_action_weight=50.0) if wide else KoopmanConfig(),  # the paper's
        ablation_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=4e-3 if wide else 2e-3),
        hours={"halfcheetah": 3.0, "walker2d": 5.0}.get(body, 3.5),  # summed over the stages, measured one by one
        ablation_hours=2.0,
    )


def locomotion_full(body: str) -> Preset:
    """The paper's protocol: 500 000 pairs, five seeds, 500 episodes of each, and the temporal U-Nets. For a GPU."""
    small = locomotion(body)
    assert small.selectors is not None
    assert small.consistency is not None
    multipliers = (1, 4, 8) if body == "halfcheetah" else (1, 2, 4, 8)
    pairs = replace(small.pairs, count=500_000, shards=64)
    unet = TrainConfig(steps=1_000_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5, ema_decay=0.9999)
    return replace(
        small,
        about=f"the paper's Table I on {body} at the paper's sizes (a GPU's work: weeks on two CPU cores)",
        amount=2_000_000,
        selectors=replace(
            small.selectors,
            returns=ReturnConfig(network="unet", unet_multipliers=multipliers),
            returns_training=replace(unet, ema_decay=0.995),
            critic_training=critic_training(1_000_000),
            guidance=1e-4,
        ),
        teacher=TeacherConfig(network="unet", unet_multipliers=multipliers, n_steps=20, solver="ddpm"),
        teacher_training=unet,
        pairs=pairs,
        student=KoopmanConfig(hidden=1024),
        student_training=TrainConfig(
            steps=200 * pairs.count // 64, batch_size=64, learning_rate=3e-4, ema_decay=0.9999
        ),
        evaluate=ReturnsConfig(episodes=500, width=50, teacher_seeds=5),
        seeds=(0, 1, 2, 3, 4),
        ablation_student=None,
        ablation_training=TrainConfig(steps=100_000, batch_size=512, learning_rate=1e-3),
        hours=500.0,
        ablation_hours=500.0,
    )


def locomotion_tiny(body: str) -> Preset:
    """Every stage of Table I in a minute: nothing is learnt."""
    training = TrainConfig(steps=20, batch_size=64, precision="32-true", checkpoint_every=1.0)
    return Preset(
        about="every stage in a minute; the policies are useless",
        task=f"{body}-v5",
        amount=20_000,
        selectors=Selectors(
            returns=ReturnConfig(width=16, blocks=1, n_steps=4),
            returns_training=training,
            critic=IQLConfig(hidden=16),
            critic_training=training,
            judged_rows=2,
            sampling=Sampling((0.3, 1.0), (0.5, 0.5), margin=1.0),
            guidance=0.1,
        ),
        teacher=TeacherConfig(width=16, blocks=1, n_steps=4, solver="ddpm"),
        teacher_training=training,
        pairs=PairsConfig(count=2_048, shards=2),
        student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
        student_training=training,
        consistency=Consistency(
            edm=EDMConfig(width=16, blocks=1),
            edm_training=training,
            student=ConsistencyConfig(width=16, blocks=1),
            student_training=training,
        ),
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3),
        operators=("dnk", "kdm"),
        ablation_training=training,
        hours=0.05,
        ablation_hours=0.1,
    )


def critic_training(steps: int) -> TrainConfig:
    """IQL's: batches of 256 at 3e-4 (the source), in full precision, since differences of Q are small."""
    return TrainConfig(steps=steps, batch_size=256, ema_decay=0.995, grad_clip=10.0, precision="32-true")


# ---------------------------------------------------------------- any environment


def gym() -> Preset:
    """DNK on any Gymnasium environment, sized for two CPU cores and a hundred thousand steps of data."""
    training = TrainConfig(steps=6_000, batch_size=512, learning_rate=1e-3)
    return replace(
        locomotion("halfcheetah"),
        about="DNK on an environment of yours, sized for two CPU cores",
        task="",
        amount=100_000,
        selectors=Selectors(
            returns=ReturnConfig(),
            returns_training=replace(training, weight_decay=1e-4),
            critic=IQLConfig(),
            critic_training=critic_training(20_000),
        ),
        teacher=TeacherConfig(width=512, blocks=4, n_steps=20, solver="ddim"),
        teacher_training=training,
        pairs=PairsConfig(count=102_400, shards=4),
        student=KoopmanConfig(first_action_weight=8.0),
        student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3),
        consistency=None,
        operators=("dnk",),
        seeds=(0,),
        ablation_student=None,
        ablation_training=None,
        hours=0.7,
        ablation_hours=0.0,
    )


def gym_tiny() -> Preset:
    """Every stage on any environment in a minute: nothing is learnt."""
    return replace(locomotion_tiny("hopper"), task="", amount=2_000, consistency=None)


PRESETS: dict[str, Callable[[], Preset]] = {
    "demo": demo,
    "full": full,
    "paper": paper,
    "tiny": tiny,
    **{
        f"{body}-{budget}": partial(make, body)
        for body in ("halfcheetah", "walker2d", "hopper")
        for budget, make in (("small", locomotion), ("full", locomotion_full), ("tiny", locomotion_tiny))
    },
    "gym-small": gym,
    "gym-tiny": gym_tiny,
}


def load(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: there is none; the message names the nearest and all of them.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]()


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not there: it names the nearest and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ValueError(f"there is no {what} '{name}'.{hint} There are: {', '.join(known)}")


def student_of(preset: Preset, operator: Operator, seed: int) -> tuple[KoopmanConfig, TrainConfig]:
    """The preset's student with another operator and training seed, all else equal."""
    return replace(preset.student, operator=operator), replace(preset.student_training, seed=seed)
