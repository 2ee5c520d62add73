"""The studies of the DNK paper, and how a run's evaluation becomes a page and a table for the terminal."""

from __future__ import annotations

from pathlib import Path

from onestride.evaluation import evaluate as evaluation
from onestride.evaluation.provenance import preset_notes
from onestride.evaluation.result import read_experiment
from onestride.reports.style import save
from onestride.runs import presets
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.runs.stage import Preset
from onestride.studies import ablations as ablation
from onestride.studies import arm_page, dnk_table1, dnk_table2, locomotion_page
from onestride.studies.study import Job, Outcome, Study


def evaluate(run: Path, config: EvaluateConfig | ReturnsConfig, command: str, device: str, pictures: bool) -> Outcome:
    """Compare the run's planners as its task is: by trials of the arm, or by returns of a benchmark."""
    folder = evaluation.evaluate(run, config, command, device)
    comparison, page = read_experiment(folder / "comparison.json"), run / "report.html"
    notes = preset_notes(comparison["config"])
    if isinstance(config, ReturnsConfig):
        locomotion_page.write(folder, run, pictures, page, device)
        return Outcome(folder, page, dnk_table1.terminal_table(comparison), notes)
    arm_page.write(folder, run, pictures, page)
    return Outcome(folder, page, dnk_table2.terminal_table(comparison), notes)


def ablations(run: Path, preset: Preset, command: str, device: str) -> Outcome:
    """Evaluate DNK with one piece taken away at a time, beside the run's table."""
    folder = ablation.ablate(run, preset, command, device)
    comparison = read_experiment(folder / "comparison.json")
    save(ablation.figure(comparison), folder / "ablations.png")
    return Outcome(folder, None, ablation.terminal_table(comparison), preset_notes(comparison["config"]))


def _table1(_study: Study, job: Job) -> Outcome:
    return evaluate(job.run, job.preset.evaluate, job.command, job.device, job.pictures)


def _ablations(_study: Study, job: Job) -> Outcome:
    return ablations(job.run, job.preset, job.command, job.device)


BODIES = {"locomotion": tuple(f"{body}-medium-expert" for body in ("halfcheetah", "walker2d", "hopper"))}
TABLE1 = Study(
    name="dnk-table1",
    about="DNK's Table I: returns and latency of teacher, DNK, KDM, KDM-F, MLP, CD and CT",
    families=BODIES,
    preset=presets.of_dataset,
    evaluate=_table1,
    results="locomotion",
    columns=dnk_table1.COLUMNS,
)
ABLATIONS = Study(
    name="dnk-ablations",
    about="DNK with one piece taken away at a time, after dnk-table1 of the same runs",
    families=BODIES,
    preset=presets.of_dataset,
    methods=(),
    hours=lambda preset: preset.ablation_hours,
    evaluate=_ablations,
    results="locomotion",
    ending="-ablations",
    columns=ablation.COLUMNS,
)
