"""Planners against each other: an evaluation, and whole experiments that end with one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from onestride.commands.base import Common, InRun, print_outcome, task_named
from onestride.errors import command_line
from onestride.runs import presets
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.selectors import SELECTORS
from onestride.tasks.bodies import BODIES


@dataclass(frozen=True)
class Evaluate(Common):
    """Compare the run's teacher with its students on the same problems; write results, figures and report."""

    evaluate: tyro.conf.AvoidSubcommands[EvaluateConfig | ReturnsConfig] = field(default_factory=EvaluateConfig)
    device: str = "cpu"
    pictures: bool = True
    """Also make figures and film."""
    publish: Path | None = None
    """Also put results, records and pictures here, such as results/kinova; what is there is not overwritten."""

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


@dataclass(frozen=True)
class Quickstart(Common):
    """Everything from nothing: data, selectors, teacher, pairs, students, evaluation; ends with table and report."""

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
        if task.benchmark is not None:
            print(f"  open {self.run / 'report.html'}")
            print(f"  onestride run --run {self.run}{named}            the student drives the body in real time")
            print("  onestride reproduce ablations --help           what each piece of DNK adds")
            return
        print(f"  open {self.run / 'report.html'}")
        print(f"  onestride run --run {self.run}{named} --scene 3            the student drives the robot in real time")
        same = f"--run {self.run}" + f" --preset {self.preset}" * (self.preset != "demo")
        print(f"  onestride train kdm {same}   another method is one word")
        print(f"  onestride evaluate {same}            takes it in")
        print("  onestride quickstart --preset full --run runs/full   the committed results")


@dataclass(frozen=True)
class Reproduce(InRun):
    """A paper's table from nothing: data, training, evaluation, figures, films and page in one command."""

    what: tyro.conf.Positional[Literal["table1", "ablations"]] = "table1"
    """table1: DNK's Table I. ablations: DNK with one piece taken away at a time, after table1 of the same run."""
    run: Path = Path("runs/table1")
    task: str = "halfcheetah-medium-expert"
    """The dataset: halfcheetah, walker2d or hopper, then -medium-expert or whatever your data is."""
    budget: Literal["small", "full"] = "small"
    """small: two CPU cores. full: the paper's sizes and 5 x 500 episodes, a GPU's work."""
    behaviours: tuple[Path, ...] = ()
    """Behaviour policies to collect with, as many steps of each (see `onestride collect`)."""
    data: Path | None = None
    """Or data that is there already (see `onestride import`), recorded in the v5 environment."""
    publish: Path | None = None
    """Also put the results here, such as results/locomotion; what is there is not overwritten."""
    device: str = "cpu"
    pictures: bool = True

    def __call__(self) -> None:
        from onestride import experiment
        from onestride.progress import console
        from onestride.runs.ingest import import_dataset

        began = time.monotonic()
        bodies = sorted(BODIES)
        if (body := self.task.split("-")[0]) not in bodies:
            sets = [f"{each}-{which}" for which in ("medium-expert", "medium") for each in bodies]
            raise presets.unknown("dataset", self.task, sets)
        preset = presets.load(f"{self.task if self.task.endswith('-medium') else body}-{self.budget}")
        run = self.run / f"{self.task}-{self.budget}"
        name = self.task if self.what == "table1" else f"{self.task}-ablations"
        files = experiment.published(self.publish, name) if self.publish is not None else {}
        hours = preset.hours if self.what == "table1" else preset.ablation_hours
        console.print(f"[bold]{self.what}[/bold] on {self.task}: {preset.about}", highlight=False)
        console.print(f"It takes about {hours:g} hours there and goes to {run}; stop it and repeat it as you like.")
        if not (run / "data").exists():
            if self.data is not None:
                import_dataset(run, task_named(preset.task), self.data)
            elif not self.behaviours:
                names = "MEDIUM" if preset.data.behaviours == 1 else "EXPERT MEDIUM"
                raise ValueError(
                    f"{run} has no data yet: give --behaviours {names} (.npz, or .zip of RL-Zoo agents), or "
                    "--data with a file recorded in the v5 environment"
                )
        if self.what == "table1":
            task = task_named(preset.task)
            experiment.make(run, preset, task, self.behaviours, self.device)
            outcome = experiment.evaluate(run, preset.evaluate, command_line(), self.device, self.pictures)
        else:
            outcome = experiment.ablations(run, preset, command_line(), self.device)
        print_outcome(outcome)
        experiment.publish(outcome.folder, files)
        print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes.")
