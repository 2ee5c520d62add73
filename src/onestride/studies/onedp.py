"""What the studies of the OneDP paper have in common: what they train, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from onestride.evaluation.entries import Entry
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.variant import Variant
from onestride.reports.table import Column
from onestride.runs import presets
from onestride.runs.presets.few_step import few_step_stages
from onestride.runs.presets.kdp import kdp_stages
from onestride.runs.presets.onedp import STUDENTS, with_onedp
from onestride.runs.settings import ReturnsConfig
from onestride.runs.stage import Preset
from onestride.studies.kdp import demonstrator, outcome
from onestride.studies.study import Evaluate, Job, Outcome, Study

CHUNKS = ("pusht", "cube-single")  # tasks of action chunks
SEEDS = {"tiny": (0,), "small": (0, 1, 2), "full": (0, 1, 2, 3, 4)}
EPISODES = 100
LONGER = 3  # times a preset's hours, judged by the steps of what comes beside it
STEPS = (100, 1)  # of the teacher by DDIM, beside its own ten
#: PushT is scored by the best reward of an episode, its coverage over 0.95; the others by success.
COLUMNS = (
    Column("best_reward", "best reward", digits=3, spread=False),
    Column("success", "success", digits=1, kind="percent", spread=False),
)
#: What training took, beside what it earned.
COST = (
    Column("training_steps", "updates", digits=0, spread=False),
    Column("training_s", "trained in", "s", 0, spread=False),
)
MEANS = (Column("nfe", "network calls", digits=0), Column("decision_ms_mean", "latency", "ms", 2, spread=False))


def preset(dataset: str, budget: str) -> Preset:
    """Return a chunk task's preset with Diffusion Policy as its teacher, and what the tables compare."""
    made = with_onedp(presets.of_dataset(dataset, budget))
    for name in STUDENTS:
        made = made.with_stage(name, seeds=SEEDS[budget])
    keyed = (stage for stage in kdp_stages(made, dataset) if stage.name == "kdp")
    made = replace(made, stages=(*made.stages, *few_step_stages(made), *keyed), hours=LONGER * made.hours)
    evaluate = made.evaluate
    if isinstance(evaluate, ReturnsConfig) and budget != "tiny":
        evaluate = replace(evaluate, episodes=EPISODES, teacher_steps=STEPS, engines=("onedp-s",))
    return replace(made, evaluate=evaluate)


def compared(study: Study, job: Job) -> Outcome:
    """Evaluate every method as its task is, with and without whoever ranks its candidates."""
    folder = evaluate(
        job.run, job.preset.evaluate, job.command, job.device, name=study.name, reference=demonstrator(job)
    )
    return outcome(study, job, folder)


def of_teacher(job: Job, method: str, steps: Sequence[int | None]) -> list[Entry]:
    """Return a multi-step planner of the run in its own steps (None) and in others, ranked as its stage says and not.

    Its episodes are so many seeds' as a teacher's: it is trained once.
    """
    stage, config = job.preset.stage(method), job.preset.evaluate
    assert isinstance(config, ReturnsConfig)
    return [
        Entry(Variant(method=method, selector=selector, steps=count), job.run / method, seed)
        for count in steps
        for selector in dict.fromkeys((stage.selector or "none", "none"))
        for seed in range(config.teacher_seeds)
    ]


def evaluated(
    study: Study, job: Job, entries: Sequence[Entry],
    figures: Mapping[str, Callable[[dict[str, Any]], Figure]] | None = None,
) -> Outcome:  # fmt: skip
    """Evaluate these planners beside one another; ``figures`` of the result go into the page, by their file."""
    ordered = sorted(entries, key=lambda entry: (entry.variant.order, entry.seed))
    folder = evaluate(job.run, job.preset.evaluate, job.command, job.device, name=study.name, entries=ordered)
    return outcome(study, job, folder, figures or {})


def study(
    name: str, about: str, families: Mapping[str, tuple[str, ...]], evaluate: Evaluate, **fields: Any
) -> Study:  # fmt: skip
    """Return a study of the OneDP paper."""
    made: dict[str, Any] = {"preset": preset, "results": name} | fields
    return Study(name=name, about=about, families=families, evaluate=evaluate, **made)
