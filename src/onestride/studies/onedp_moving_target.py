"""Tables 3 to 5 of the OneDP paper, in simulation: an arm whose target is moved away whenever it comes near.

A Gen3 in ten patterns (``tasks/kinova/moving.py``), each planner at its own measured latency. What is compared are the
teacher by 100 and by 10 network calls and what is distilled of it, with 64 candidates and with one.
"""

from __future__ import annotations

from dataclasses import replace

from onestride.evaluation.entries import Entry
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.variant import Variant
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.reports.table import Column
from onestride.runs.presets import kinova
from onestride.runs.presets.onedp import SHARE, STUDENTS
from onestride.runs.run import trained_methods
from onestride.runs.settings import EvaluateConfig
from onestride.runs.stage import TEACHER, Preset, Stage
from onestride.studies.kdp import outcome
from onestride.studies.onedp import study
from onestride.studies.study import Job, Outcome, Study
from onestride.tasks.kinova.moving import task
from onestride.training.config import TrainConfig

TRIALS = {"tiny": 2, "small": 20, "full": 100}
SEEDS = {"tiny": (0,), "small": (0,), "full": (0, 1, 2)}
LEVELS, FEWER = 100, 10  # network calls of the teacher
TIMEOUT = 10.0  # [s], within which the arm has to rest on its target
COLUMNS = (
    Column("success", "success", digits=1, kind="percent", spread=False),
    Column("completion_time_s", "time to success", "s", 2, spread=False),
    Column("decision_ms_p50", "plan made in, p50", "ms", 1, spread=False),
    Column("decision_ms_p99", "p99", "ms", 1, spread=False),
    Column("control_hz", "actions sent", "Hz", 1, spread=False),
    Column("terminal_error_mm", "terminal error", "mm", 1, spread=False),
    Column("nfe", "network calls", digits=0, spread=False),
)


def preset(dataset: str, budget: str) -> Preset:
    """Return the arm's preset with a teacher of 100 noise levels, and OneDP in a tenth of its training."""
    del dataset  # there is one arm
    sizes = {"tiny": kinova.tiny, "small": kinova.demo, "full": kinova.full}
    own, steps = sizes[budget](), {"tiny": 20, "small": 5_000, "full": 20_000}[budget]
    config = own.stage(TEACHER).config
    assert isinstance(config, TeacherConfig)
    levels = config.n_steps if budget == "tiny" else LEVELS
    training = replace(own.stage(TEACHER).training or TrainConfig(), steps=steps, batch_size=256)
    short = replace(training, steps=max(round(SHARE * steps), 1), warmup=20)
    return replace(
        own,
        about=f"a Gen3 follows a target that is moved away; {own.about}",
        stages=(
            Stage(
                name=TEACHER, of="diffuser", role="method", config=replace(config, n_steps=levels), training=training
            ),
            *(Stage(name=name, role="method", training=short, seeds=SEEDS[budget]) for name in STUDENTS),
        ),
        evaluate=EvaluateConfig(trials=TRIALS[budget], timeout=1.0 if budget == "tiny" else TIMEOUT),
        hours=1.5,  # judged from the arm's own presets
    )


def chased(study: Study, job: Job) -> Outcome:
    """Evaluate on the clock that decisions are charged to."""
    config = job.preset.evaluate
    assert isinstance(config, EvaluateConfig)
    entries = []
    for name, (method, seed) in trained_methods(job.run).items():
        for selector in ("task", "none"):
            planner = Entry(Variant(method=method, selector=selector), job.run / name, seed)
            entries.append(planner)
            if method == TEACHER and job.budget != "tiny":
                entries.append(replace(planner, variant=replace(planner.variant, steps=FEWER)))
            elif method != TEACHER and selector == "task":
                entries.append(replace(planner, variant=replace(planner.variant, backend="engine")))
    entries.sort(key=lambda e: (e.variant.order, e.seed))
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=entries, task=task())
    return outcome(study, job, folder)


STUDY = study(
    "onedp-moving-target", "a target that is moved away", {"arm": ("kinova",)}, chased, preset=preset, methods=STUDENTS,
    columns=COLUMNS, against="",
)  # fmt: skip
