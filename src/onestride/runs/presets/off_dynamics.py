"""A body that changed: a source run with much data of the stock body, and runs with little data of modified ones."""

from __future__ import annotations

from dataclasses import replace

from onestride.methods import METHODS
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.dynamics import ContextsConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.methods.score_distillation import ScoreDistillationConfig
from onestride.runs.presets.tiny import UNNAMED
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import CONTEXTS, DEFAULTS, DataSet, Defaults, Preset, Stage
from onestride.tasks.modified_bodies.variants import CHANGES
from onestride.training.config import TrainConfig

#: Table I's columns of Diffuser, and the paper's planner; what Figure 2 takes from it; in the order of training.
TABLE1 = ("return-diffuser", "finetuned-diffuser", "joint-diffuser", "off-dynamics")
FIGURE2 = ("labelled-diffuser", "off-dynamics-score", "off-dynamics-inverse-action")
ALONE = ("return-diffuser", "finetuned-diffuser")  # learn from the target's few windows
PAIRS_OF, STUDENT, DISTILLED = "off-dynamics-0", "dnk", "onedp-s"
#: Modified bodies by their tasks' names -> the body, and the task that their source data are of.
BODIES = {f"{c.body}-v5-{c.name}": (c.body, f"{c.body}-v5" + (f"-{c.source}" if c.source else "")) for c in CHANGES}


def source(task: str, budget: str) -> Preset:
    """Return what a source run is: much data of a body, and a planner of it that asks for a return."""
    body, steps = task.split("-")[0], {"small": 20_000, "full": 1_000_000, "tiny": 20}[budget]
    planner = Stage(
        name="return-diffuser", role="method", config=_planner(body, budget), training=_training(body, budget, steps)
    )
    return Preset(
        about=f"much data of {task}, and a planner of it that asks for a return", task=task,
        amount={"small": 1_000_000, "full": 2_000_000, "tiny": 4_000}[budget], stages=(planner,),
        evaluate=_evaluation(budget), unnamed=_unnamed(budget), hours=_hours(body, budget) / 4, data=DataSet(),
    )  # fmt: skip


def target(task: str, budget: str) -> Preset:
    """Return what is trained of a modified body with 10,000 steps of it, and with its source's data beside them."""
    body, _ = BODIES[task]
    joint, few = {"small": (12_000, 8_000), "full": (1_000_000, 200_000), "tiny": (20, 20)}[budget]
    finetuned = {"small": 10_000, "full": 10_000, "tiny": 20}[budget]
    steps = {"return-diffuser": few, "finetuned-diffuser": finetuned, "off-dynamics-inverse-action": few}
    classifier = TrainConfig(
        steps={"small": 20_000, "full": 200_000, "tiny": 20}[budget], batch_size=64 if budget == "tiny" else 256,
        learning_rate=1e-3, ema_decay=0.99, precision="32-true",
    )  # fmt: skip
    contexts = ContextsConfig(folds=2 if budget == "tiny" else 5)
    stages = [Stage(name=CONTEXTS, role="contexts", config=contexts, training=classifier)]
    for name in (*TABLE1, *FIGURE2):
        training = _training(body, budget, steps.get(name, joint))
        if name == "finetuned-diffuser":  # it begins with what took much larger steps
            training = replace(training, learning_rate=0.3 * training.learning_rate)
        config = None if name == "off-dynamics-inverse-action" else _planner(body, budget)
        if config is not None:
            asked = METHODS[name]().config
            config = replace(config, condition_dropout=asked.condition_dropout, condition_weight=asked.condition_weight)
        stages.append(Stage(name=name, role="method", config=config, training=training))
    count = {"small": 200_000, "full": 500_000, "tiny": 2_048}[budget]
    stages.append(Stage(name="pairs", role="pairs", config=PairsConfig(
        count=count, shards=2 if budget == "tiny" else 8, teacher=PAIRS_OF, temperatures=(0.5,), probabilities=(1.0,)
    )))  # fmt: skip
    tiny = KoopmanConfig(operator=STUDENT, latent_dim=16, hidden=16, gain_hidden=8)
    few_rows = {"latent_dim": 256, "hidden": 256, "gain_hidden": 128} if body == "halfcheetah" else {}
    whole = KoopmanConfig(operator=STUDENT, first_action_weight=8.0, **few_rows)  # type: ignore[arg-type]
    student = {"tiny": tiny, "small": whole, "full": KoopmanConfig(operator=STUDENT, hidden=1024)}[budget]
    stages.append(Stage(
        name=STUDENT, role="method", config=student,
        training=_training(body, budget, {"small": 8_000, "full": 400_000, "tiny": 20}[budget]),
    ))  # fmt: skip
    distilled = Stage(
        name=DISTILLED, role="method", config=ScoreDistillationConfig(teacher=PAIRS_OF),
        training=replace(_training(body, budget, {"small": 4_000, "full": 100_000, "tiny": 20}[budget]), warmup=100),
    )  # fmt: skip
    stages.append(distilled)
    return Preset(
        about=f"{task} from 10,000 steps of it and much data of its source", task=task,
        amount=2_000 if budget == "tiny" else 10_000, stages=tuple(stages), evaluate=_evaluation(budget),
        unnamed=_unnamed(budget), hours=_hours(body, budget),
    )  # fmt: skip


def _planner(body: str, budget: str) -> TeacherConfig:
    asked = {"condition_dropout": 0.5, "condition_weight": 0.9}
    if budget == "full":  # Diffuser's own for these bodies
        multipliers = (1, 4, 8) if body == "halfcheetah" else (1, 2, 4, 8)
        return TeacherConfig(network="unet", unet_multipliers=multipliers, n_steps=20, solver="ddpm", **asked)  # type: ignore[arg-type]
    if budget == "tiny":
        return TeacherConfig(width=16, blocks=1, n_steps=4, **asked)  # type: ignore[arg-type]
    width = 256 if body == "halfcheetah" else 512  # plans of 4 rows, of 32
    return TeacherConfig(width=width, blocks=3, n_steps=20, sample_steps=10, **asked)  # type: ignore[arg-type]


def _training(body: str, budget: str, steps: int) -> TrainConfig:
    del body
    if budget == "full":
        return TrainConfig(steps=steps, batch_size=64, learning_rate=2e-4, ema_decay=0.995)
    if budget == "tiny":
        return TrainConfig(steps=steps, batch_size=32, precision="32-true", checkpoint_every=1.0)
    return TrainConfig(steps=steps, batch_size=256, learning_rate=1e-3)


def _evaluation(budget: str) -> ReturnsConfig:
    if budget == "full":
        return ReturnsConfig(episodes=300, width=50, teacher_seeds=3)
    if budget == "tiny":
        return ReturnsConfig(episodes=2, width=2, teacher_seeds=1, states=8, shown=2, decisions=3, engines=())
    return ReturnsConfig(episodes=50, width=25, teacher_seeds=1, engines=())


def _unnamed(budget: str) -> Defaults:
    return UNNAMED if budget == "tiny" else DEFAULTS


def _hours(body: str, budget: str) -> float:
    return {"tiny": 0.05, "full": 200.0}.get(budget, 1.5 if body == "halfcheetah" else 5.0)
