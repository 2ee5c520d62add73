"""A study: a paper's table, or another comparison of planners, that one command makes from nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as RichTable

from onestride.evaluation.variant import Variant
from onestride.reports.table import Column
from onestride.runs.stage import Preset


@dataclass(frozen=True)
class Outcome:
    """Where the results are, the page made of them (if one was), and the table for the terminal.

    notes: what a reader of the table has to know first.
    """

    folder: Path
    page: Path | None
    table: RichTable
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """One data set of a study under way.

    root: the folder of the study's runs. budget: of its preset.
    behaviours: policies that the data is of, or that the task's demonstrator needs.
    command: that was typed. pictures: whether figures and films are made too.
    home: the data set in whose run everything is, if it is another one's.
    """

    root: Path
    dataset: str
    budget: str
    preset: Preset
    command: str
    device: str = "cpu"
    pictures: bool = True
    behaviours: tuple[Path, ...] = ()
    home: str = ""

    @property
    def run(self) -> Path:
        """The folder of the data set's run, which studies of the same root share."""
        return self.run_of(self.home or self.dataset)

    def run_of(self, dataset: str) -> Path:
        """Return the folder of another data set's run in the same budget."""
        return self.root / f"{dataset}-{self.budget}"


#: Evaluates what a study trained of one data set.
Evaluate = Callable[["Study", Job], Outcome]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is trained, what of it is evaluated, and what its table shows.

    name: of the command, and of the paper's numbers beside it in ``results/paper``.
    about: what is compared, in a line.
    families: what is averaged over -> its data sets, in order.
    preset: (data set, budget) -> what is trained and how it is evaluated. Studies with the same presets share runs.
    methods: which of the preset's methods are trained; None: all; (): another study of the same root trains them.
    evaluate: evaluates what was trained.
    hours: of a preset, as ``Preset.hours``.
    columns: of every data set; the first of them is also averaged over each family.
    means: what is only averaged over a family.
    against: the method whose average stands under the ratio, by the same selector; "": there is no ratio.
    results: folder below ``results/``. ending: of the results' names, after the data set's.
    make: makes what training needs, where that is more than the preset's stages.
    home: the data set in whose run all are evaluated. paper: what runs are shared by, see ``family``.
    as_row: a data set's variant -> the line of the table that it stands in, with those of other data sets.
    """

    name: str
    about: str
    families: Mapping[str, tuple[str, ...]]
    preset: Callable[[str, str], Preset]
    evaluate: Evaluate
    results: str
    methods: tuple[str, ...] | None = None
    hours: Callable[[Preset], float] = lambda preset: preset.hours
    columns: tuple[Column, ...] = ()
    means: tuple[Column, ...] = ()
    against: str = "teacher"
    ending: str = ""
    make: Callable[[Job], None] | None = None
    home: str = ""
    paper: str = ""
    as_row: Callable[[Variant], Variant] = lambda variant: variant

    def folder_of(self, job: Job, dataset: str) -> Path:
        """Return the folder of a data set's evaluation."""
        return job.run_of(self.home) / f"{self.name}-{dataset}" if self.home else job.run_of(dataset) / self.name

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets, each once."""
        return tuple(dict.fromkeys(dataset for family in self.families.values() for dataset in family))

    @property
    def family(self) -> str:
        """What the paper is called, by which runs are shared: by default the first word of the name."""
        return self.paper or self.name.partition("-")[0]
