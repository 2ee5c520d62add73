"""What the studies of the off-dynamics paper have in common: a source run, runs of modified bodies, their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onestride.evaluation.entries import Entry
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.variant import Variant
from onestride.reports.table import Column
from onestride.runs.collecting import behaviour_stage
from onestride.runs.presets import off_dynamics as presets
from onestride.runs.run import trained_methods
from onestride.runs.seeds import run_stages
from onestride.runs.settings import ReturnsConfig
from onestride.runs.sources import take_source
from onestride.studies.kdp import outcome
from onestride.studies.study import Evaluate, Job, Outcome, Study
from onestride.tasks import TASKS

BEHAVES = "return-diffuser-0"  # of the source run: it makes the target's data, as in the paper
SEEDS = {"tiny": (0,), "small": (0,), "full": (0, 1, 2)}
RETURN = Column("return_normalised", "normalised return x 100", digits=1, kind="score", spread=False)
RAW = Column("return_raw", "return", digits=0, spread=False)
FAMILIES = {
    body: tuple(task for task, (of, _) in presets.BODIES.items() if of == body and "-to-" in task)
    for body in ("halfcheetah", "walker2d", "hopper")
}


def make(job: Job) -> None:
    """Make the source's run, collect the target's few steps by its planner, take its data along, and train."""
    _, source_task = presets.BODIES[job.home or job.dataset]
    source_run, source = job.run_of(source_task), presets.source(source_task, job.budget)
    if not (source_run / "data").exists():
        behaviour_stage(source_run, TASKS[source_task](), job.behaviours, source.amount, source.data_seed)
    run_stages(source_run, source.stages, job.device, SEEDS[job.budget])
    task, amount = TASKS[job.preset.task](), job.preset.amount
    behaviour_stage(job.run, task, (source_run / BEHAVES,), amount, job.preset.data_seed)
    take_source(job.run, source_run)
    run_stages(job.run, job.preset.stages, job.device, SEEDS[job.budget])


def planners(run: Path, methods: Sequence[str]) -> list[Entry]:
    """Return the run's planners of these methods, each drawing one plan, in this order."""
    found = {name: made for name, made in trained_methods(run).items() if made[0] in methods}
    entries = [
        Entry(Variant(method=method, selector="none"), run / name, seed) for name, (method, seed) in found.items()
    ]
    return sorted(entries, key=lambda e: (methods.index(e.variant.method), e.seed))


def compared(methods: Sequence[str]) -> Evaluate:
    """Return what evaluates planners of these methods in the target's environment."""

    def evaluated(study: Study, job: Job) -> Outcome:
        config = job.preset.evaluate
        assert isinstance(config, ReturnsConfig)
        folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=planners(job.run, methods))
        return outcome(study, job, folder)

    return evaluated


def elsewhere(study: Study, job: Job, entries: Sequence[Entry], episodes: int) -> Outcome:
    """Evaluate planners of the study's home in the environment of the data set's task."""
    config = job.preset.evaluate
    assert isinstance(config, ReturnsConfig)
    config = replace(config, episodes=min(config.episodes, episodes), width=min(config.width, episodes))
    folder = study.folder_of(job, job.dataset)
    evaluate(
        job.run, config, job.command, job.device, name=folder.name, entries=entries, task=TASKS[job.dataset]()
    )  # fmt: skip
    return outcome(study, job, folder)


def study(name: str, about: str, families: Mapping[str, tuple[str, ...]], evaluated: Evaluate, **fields: Any) -> Study:
    """Return a study of the off-dynamics paper."""
    home = fields.get("home", "")
    made: dict[str, Any] = {
        "preset": lambda dataset, budget: presets.target(home or dataset, budget), "results": name, "make": make,
        "columns": (RETURN,), "against": "", "paper": "off-dynamics",
    }  # fmt: skip
    return Study(name=name, about=about, families=families, evaluate=evaluated, **made | fields)


def asking(entry: Entry, **conditions: float) -> Entry:
    """Return a planner that is asked for these conditions."""
    return replace(entry, variant=replace(entry.variant, asked=tuple(sorted(conditions.items()))))
