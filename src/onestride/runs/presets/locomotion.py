"""The presets of the DNK paper's Table I on HalfCheetah, Walker2d and Hopper, and of any other environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onestride.methods.consistency import ConsistencyConfig
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.edm import EDMConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.presets.tiny import PAIRS, TRAINING, UNNAMED
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import Ablations, DataSet, Preset, Stage, distilled
from onestride.selectors.iql import CriticOptions, IQLConfig
from onestride.selectors.returns import ReturnConfig
from onestride.training.config import TrainConfig

COMPARED = ("dnk", "kdm", "kdm-f", "mlp")  # with the control


def ranking(
    returns: ReturnConfig, returns_training: TrainConfig, critic: IQLConfig, critic_training: TrainConfig,
    options: CriticOptions | None = None,
) -> tuple[Stage, ...]:  # fmt: skip
    """Return the stages of what is learnt to rank plans: the return model and the critic."""
    return (
        Stage(name="returns", role="selector", config=returns, training=returns_training),
        Stage(name="iql", role="selector", config=critic, training=critic_training, options=options or CriticOptions()),
    )


def consistency(
    edm: EDMConfig, student: ConsistencyConfig, training: TrainConfig, seeds: tuple[int, ...]
) -> tuple[Stage, ...]:
    """Return the stages of the paper's CT and CD rows: action-level policies, which are plans of horizon 1."""
    return (
        Stage(name="edm", role="method", config=edm, training=training, horizon=1, selector="iql"),
        *(
            Stage(
                name=kind, role="method", config=replace(student, method=kind), training=training, horizon=1,
                selector="iql", seeds=seeds,
            )
            for kind in ("ct", "cd")
        ),
    )  # fmt: skip


def critic_training(steps: int) -> TrainConfig:
    """IQL's: batches of 256 at 3e-4 (the source), in full precision, since differences of Q are small."""
    return TrainConfig(steps=steps, batch_size=256, ema_decay=0.995, grad_clip=10.0, precision="32-true")


def small(body: str) -> Preset:
    """Table I on two CPU cores: residual MLPs, a million steps of data, three seeds of every student.

    Not the paper's: no guidance, since CleanDiffuser's weight on HalfCheetah is next to nothing and its gradients are
    not, and a deterministic teacher, so that the row is what its students are distilled from.
    """
    wide = body != "halfcheetah"  # plans of 32 rows instead of 4
    seeds = (0, 1, 2)
    student = TrainConfig(steps=2_000, batch_size=2_048, learning_rate=4e-3, ema_decay=0.995, optimizer="muon")
    if body == "walker2d":  # as its results were made; on Hopper Muon is nearer in two thirds of the time
        student = TrainConfig(steps=16_000, batch_size=512, learning_rate=4e-3)
    # Both behaviours begin at an episode's first state, and from training's temperatures few candidates follow the
    # better one; a hot candidate that does is worth far more than the margin there, and seldom later.
    options = CriticOptions(scored_steps=4, temperatures=(0.3, 0.5, 0.7, 1.0), temperature_penalty=8.0)
    return Preset(
        about=f"the paper's Table I on {body}, sized for two CPU cores",
        task=f"{body}-v5",
        amount=1_000_000,
        ranked_by="iql",
        stages=(
            *ranking(
                ReturnConfig(),
                TrainConfig(steps=8_000, batch_size=512, weight_decay=1e-4),
                # Hopper's medium behaviour falls after 300 steps: at 0.99, which forgets in 100, it is worth as much as
                # the expert's (262 against 276 in the data's episodes), at 0.997 less (688 against 1069).
                IQLConfig(discount=0.997) if body == "hopper" else IQLConfig(),
                critic_training(150_000),
                CriticOptions() if wide else options,
            ),
            *distilled(
                teacher=TeacherConfig(width=768 if wide else 512, blocks=4, n_steps=20, solver="ddim"),
                teacher_training=TrainConfig(steps=16_000 if wide else 24_000, batch_size=512, learning_rate=1e-3),
                teacher_ranked_by="returns",
                pairs=PairsConfig(count=512_000, shards=16),
                # The first action is carried out, and judged first. With the paper's 1.5 it has 3 % of what a plan of
                # 32 rows weighs in the loss, with 50 half.
                student=KoopmanConfig(first_action_weight=50.0 if wide else 8.0),
                student_training=student,
                methods=COMPARED,
                seeds=seeds,
                ranked_by="iql",
            ),
            *consistency(
                EDMConfig(width=256, blocks=3),
                ConsistencyConfig(width=256, blocks=3),
                TrainConfig(steps=4_000, batch_size=512, learning_rate=5e-4),
                seeds,
            ),
        ),
        evaluate=ReturnsConfig(teacher_seeds=1),
        ablations=Ablations(
            KoopmanConfig(first_action_weight=50.0) if wide else KoopmanConfig(),  # the paper's
            TrainConfig(steps=4_000, batch_size=512, learning_rate=4e-3 if wide else 2e-3),
        ),
        hours={"halfcheetah": 3.0, "walker2d": 5.0}.get(body, 3.5),  # summed over the stages, measured one by one
        ablation_hours=2.0,
    )


def full(body: str) -> Preset:
    """The paper's protocol: 500 000 pairs, five seeds, 500 episodes of each, and the temporal U-Nets. For a GPU."""
    multipliers = (1, 4, 8) if body == "halfcheetah" else (1, 2, 4, 8)
    preset, seeds = small(body), (0, 1, 2, 3, 4)
    unet = TrainConfig(steps=1_000_000, batch_size=64, learning_rate=2e-4, weight_decay=1e-5, ema_decay=0.9999)
    count = 500_000
    training = TrainConfig(steps=200 * count // 64, batch_size=64, learning_rate=3e-4, ema_decay=0.9999)
    pairs = replace(preset.stage("pairs").config, count=count, shards=64)
    preset = (
        preset.with_stage(
            "returns",
            config=ReturnConfig(network="unet", unet_multipliers=multipliers),
            training=replace(unet, ema_decay=0.995),
        )
        .with_stage("iql", training=critic_training(1_000_000))
        .with_stage(
            "teacher",
            config=TeacherConfig(network="unet", unet_multipliers=multipliers, n_steps=20, solver="ddpm"),
            training=unet,
            guidance=1e-4,
        )
        .with_stage("pairs", config=pairs)
    )
    for name in COMPARED:
        preset = preset.with_stage(
            name, config=KoopmanConfig(operator=name, hidden=1024), training=training, seeds=seeds
        )
    for name in ("ct", "cd"):
        preset = preset.with_stage(name, seeds=seeds)
    return replace(
        preset,
        about=f"the paper's Table I on {body} at the paper's sizes (a GPU's work: weeks on two CPU cores)",
        amount=2_000_000,
        evaluate=ReturnsConfig(episodes=500, width=50, teacher_seeds=5),
        ablations=Ablations(KoopmanConfig(hidden=1024), TrainConfig(steps=100_000, batch_size=512, learning_rate=1e-3)),
        hours=500.0,
        ablation_hours=500.0,
    )


def tiny(body: str) -> Preset:
    """Every stage of Table I in a minute: nothing is learnt."""
    return Preset(
        about="every stage in a minute; the policies are useless",
        task=f"{body}-v5",
        amount=20_000,
        ranked_by="iql",
        stages=(
            *ranking(
                ReturnConfig(width=16, blocks=1, n_steps=4),
                TRAINING,
                IQLConfig(hidden=16),
                TRAINING,
                CriticOptions(scored_steps=2, temperatures=(0.3, 1.0), temperature_penalty=1.0),
            ),
            *distilled(
                teacher=TeacherConfig(width=16, blocks=1, n_steps=4, solver="ddpm"),
                teacher_training=TRAINING,
                teacher_ranked_by="returns",
                guidance=0.1,
                pairs=PAIRS,
                student=KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8),
                student_training=TRAINING,
                methods=("dnk", "kdm"),
                ranked_by="iql",
            ),
            *consistency(EDMConfig(width=16, blocks=1), ConsistencyConfig(width=16, blocks=1), TRAINING, (0,)),
        ),
        unnamed=UNNAMED,
        evaluate=ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3),
        ablations=Ablations(KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8), TRAINING),
        hours=0.05,
        ablation_hours=0.1,
    )


def medium(make: Callable[[str], Preset], body: str) -> Preset:
    """Return a preset of this file for data by the medium behaviour alone, and nothing else changed."""
    preset = make(body)
    return replace(
        preset, about=f"{preset.about}; data by the medium behaviour alone", data=DataSet(f"{body}-medium", 1)
    )


# ---------------------------------------------------------------- any environment


def gym_small() -> Preset:
    """DNK on any Gymnasium environment, sized for two CPU cores and a hundred thousand steps of data."""
    training = TrainConfig(steps=6_000, batch_size=512, learning_rate=1e-3)
    return Preset(
        about="DNK on an environment of yours, sized for two CPU cores",
        task="",
        amount=100_000,
        ranked_by="iql",
        stages=(
            *ranking(ReturnConfig(), replace(training, weight_decay=1e-4), IQLConfig(), critic_training(20_000)),
            *distilled(
                teacher=TeacherConfig(width=512, blocks=4, n_steps=20, solver="ddim"),
                teacher_training=training,
                teacher_ranked_by="returns",
                pairs=PairsConfig(count=102_400, shards=4),
                student=KoopmanConfig(first_action_weight=8.0),
                student_training=TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3),
                ranked_by="iql",
            ),
        ),
        evaluate=ReturnsConfig(teacher_seeds=1),
        hours=0.7,
    )


def gym_tiny() -> Preset:
    """Every stage on any environment in a minute: nothing is learnt."""
    preset = tiny("hopper").without("edm", "ct", "cd")
    return replace(preset, task="", amount=2_000, ablations=None, ablation_hours=0.0)
