"""Planners against each other: an evaluation, and whole experiments that end with one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from onestride.commands.base import Common, InRun, Scalable, print_outcome, task_named
from onestride.errors import command_line
from onestride.methods import METHODS
from onestride.runs import presets
from onestride.runs.made_with import preset_of_run
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.selectors import SELECTORS

if TYPE_CHECKING:
    from onestride.runs.stage import Preset
    from onestride.studies.study import Study


@dataclass(frozen=True)
class Evaluate(Common, Scalable):
    """Compare the run's teacher with its students on the same problems; write results, figures and report."""

    doing: ClassVar[str] = "evaluating the planners in {run}"
    of_preset: ClassVar[tuple[str, ...]] = ("evaluate",)

    evaluate: tyro.conf.AvoidSubcommands[EvaluateConfig | ReturnsConfig] = field(default_factory=EvaluateConfig)
    device: str = "cpu"
    pictures: bool = True
    """Also make figures and film."""
    publish: Path | None = None
    """Also put results, records and pictures here, such as results/kinova; what is there is not overwritten."""

    @classmethod
    def with_preset(cls, name: str) -> Evaluate:
        """Return the command with a preset's settings."""
        return cls(preset=name, evaluate=presets.load(name).evaluate)

    def __call__(self) -> None:
        from onestride import experiment

        files = experiment.published(self.publish, self._dataset()) if self.publish is not None else {}
        outcome = experiment.evaluate(self.run, self.evaluate, command_line(), self.device, self.pictures)
        print_outcome(outcome)
        experiment.publish(outcome.folder, files)

    def _dataset(self) -> str | None:
        """What a benchmark's results are called: the folder of the run, or its data set where that does not say it."""
        if not isinstance(self.evaluate, ReturnsConfig):
            return None
        from onestride.runs.run import data_report

        dataset = str(data_report(self.run).get("dataset", "")) if (self.run / "data").exists() else ""
        return self.run.name if dataset in self.run.name else dataset


def studies_of(preset: str) -> list[tuple[str, str]]:
    """Return the studies whose data sets' presets have the preset's stem, each with its first data set there."""
    from onestride.studies import STUDIES

    stem = preset.rpartition("-")[0]
    found = ((name, [each for each in STUDIES[name]().datasets if stem and each.startswith(stem)]) for name in STUDIES)
    return [(name, sets[0]) for name, sets in found if sets]


@dataclass(frozen=True)
class Quickstart(Common, Scalable):
    """Everything from nothing: data, selectors, teacher, pairs, students, evaluation; ends with table and report."""

    doing: ClassVar[str] = "everything of preset {preset} in {run}"

    behaviours: tuple[Path, ...] = ()
    """Behaviour policies to collect with, where the preset's task needs them (see `onestride collect`)."""
    selector: str | None = None
    """Ranks the candidates of every planner instead of the preset's selectors: one of yours, or medoid."""
    device: str = "cpu"
    pictures: bool = True

    def __call__(self) -> None:
        from onestride import experiment
        from onestride.progress import console

        began = time.monotonic()
        preset = presets.load(self.preset)
        console.print(f"[bold]{self.preset}[/bold]: {preset.about}")
        console.print(f"Everything goes to {self.run}; stop it and repeat the command as you like.", highlight=False)
        task = task_named(self.task or preset.task)
        if self.selector is not None:
            preset = preset.ranked_with(SELECTORS.resolve(self.selector))
        experiment.make(self.run, preset, task, self.behaviours, self.device)
        print_outcome(experiment.evaluate(self.run, preset.evaluate, command_line(), self.device, self.pictures))
        minutes = (time.monotonic() - began) / 60
        print(f"\nDone in {minutes:.1f} minutes. What to try next:")
        named = f" --task {self.task}" if self.task and ":" in self.task else ""
        same = f"--run {self.run}" + f" --preset {self.preset}" * (preset_of_run(self.run) != self.preset) + named
        print(f"  open {self.run / 'report.html'}")
        print(f"  onestride run --run {self.run}{named} --scene 3   the student drives the robot in real time")
        there = {stage.name for stage in preset.stages}
        for name in [n for n in METHODS if METHODS[n]().needs == "pairs" and n not in there][:1]:
            print(f"  onestride train {name} {same}   another method is one word")
            print(f"  onestride evaluate {same}   adds it to the comparison")
        if self.preset == "demo":
            print("  onestride quickstart --preset full --run runs/full   the committed results")
        for name, dataset in studies_of(self.preset):
            print(f"  onestride reproduce {name} --task {dataset}   a paper's table of this task")


@dataclass(frozen=True)
class Reproduce(InRun, Scalable):
    """A study from nothing, such as a paper's table: data, training, evaluation, figures, films and page."""

    doing: ClassVar[str] = "study {study} in {run}"

    study: tyro.conf.Positional[str] = "dnk-table1"
    """dnk-table1, dnk-ablations (after dnk-table1 of the same runs), kdp-table1 to kdp-table7, onedp-table1,
    onedp-moving-target, or FILE.py:NAME."""
    run: Path = Path("runs")
    """Folder of the runs, one for each data set: <run>/<paper>/<data set>-<budget>. Studies of one paper share them."""
    task: str | None = None
    """One of the study's data sets, or your own data of the same body. None: all, one after another."""
    budget: Literal["tiny", "small", "full"] = "small"
    """tiny: a minute, nothing is learnt. small: two CPU cores. full: the paper's sizes, a GPU's work."""
    methods: tuple[str, ...] = ()
    """Only these of the study's methods, beside the teacher; the others join when it is repeated. All where
    none is named."""
    behaviours: tuple[Path, ...] = ()
    """Behaviour policies to collect with, as many steps of each (see `onestride collect`); for several data sets the
    folder that they are in, named as halfcheetah-expert.npz."""
    data: Path | None = None
    """Or data that is there already (see `onestride import`), recorded in the v5 environment."""
    publish: Path | None = None
    """Also put the results here, such as results/locomotion; what is there is not overwritten."""
    device: str = "cpu"
    pictures: bool = True

    def planned(self) -> list[str]:
        """Return what will be done, a line each: said before it begins, and by a dry run."""
        study, chosen = self._chosen()
        lines = []
        for dataset, preset in chosen.items():
            lines.append(f"{study.name} on {dataset}: {preset.about}")
            lines.append(f"  stages: {', '.join(stage.name for stage in preset.stages) or 'none'}, then an evaluation")
        hours = sum(study.hours(preset) for preset in chosen.values())
        takes = f"It takes about {hours:.2g} hours there" if hours else "It takes a time that is not on record"
        return [*lines, f"{takes} and goes to {self.run / study.family}; stop it and repeat it as you like."]

    def __call__(self) -> None:
        from onestride import experiment
        from onestride.progress import console
        from onestride.studies.study import Job

        began = time.monotonic()
        study, chosen = self._chosen()
        to = self.publish
        files = {each: experiment.published(to, each + study.ending) if to is not None else {} for each in chosen}
        root = self.run / study.family
        for line in self.planned():
            console.print(line, highlight=False, markup=False)
        for dataset, preset in chosen.items():
            job = Job(root, dataset, self.budget, preset, command_line(), self.device, self.pictures, self.behaviours)
            outcome = experiment.reproduce(study, job, self.data)
            print_outcome(outcome)
            experiment.publish(outcome.folder, files[dataset])
        print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes.")

    def _chosen(self) -> tuple[Study, dict[str, Preset]]:
        """Return the study of the methods that were asked for, and what it trains for each data set."""
        from onestride import experiment
        from onestride.studies import STUDIES

        study = STUDIES[STUDIES.resolve(self.study)]()
        if self.methods:
            unknown = [each for each in self.methods if each not in (study.methods or ())]
            if unknown:
                there = (
                    f"trains {', '.join(study.methods)}" if study.methods else "has no list of methods to choose from"
                )
                raise ValueError(f"--methods {' '.join(unknown)}: {study.name} {there}")
            study = replace(study, methods=self.methods)
        datasets = study.datasets if self.task is None else (self.task,)
        if self.data is not None and len(datasets) > 1:
            raise ValueError(f"--data is of one data set, {study.name} has {len(datasets)}: say which with --task")
        return study, {each: experiment.preset_for(study, each, self.budget) for each in datasets}
