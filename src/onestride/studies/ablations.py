"""What the DNK paper claims but does not show: one piece of DNK taken away at a time, on pairs of one teacher.

Everything goes into ``<run>/ablations``, beside the table's own checkpoints, which it needs. Every setting has the same
budget, so its reference, the whole DNK, is trained anew with it. What needs no other training is the table's: its
teacher by fewer DDIM steps, and its DNK with 1 to 256 candidates. DNK without state-dependent gains (KDM-F) and a plain
MLP on the same pairs are rows of the table itself, with all of its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import table as rich

from onestride.checkpoint import load_config
from onestride.evaluation.entries import Entry
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.variant import Variant
from onestride.methods import METHODS
from onestride.reports.captions import counts, generators
from onestride.reports.documents import records
from onestride.reports.style import GREY, GRID, STYLE, colour
from onestride.reports.table import Row, Table, terminal, variants
from onestride.runs.pairs_stage import pairs_stage
from onestride.runs.run import PAIRS, TEACHER, checkpoint_id, task_of
from onestride.runs.settings import PairsConfig, ReturnsConfig
from onestride.runs.stage import Preset
from onestride.runs.stages import train_method
from onestride.studies.dnk_table1 import DISTANCE, LATENCY, NFE, RETURN, SPREAD, UNSELECTED, WORST
from onestride.training.config import TrainConfig

FOLDER = Path("ablations")
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DDIM_STEPS = (20, 10, 5, 2, 1)


@dataclass(frozen=True)
class Setting:
    """One training. name: of its variants, "" the reference. label: for readers. student, pairs, training: changes."""

    name: str
    label: str
    student: Callable[[Any], Any] = lambda student: student
    pairs: Callable[[PairsConfig], PairsConfig] | None = None
    training: Callable[[TrainConfig], TrainConfig] = lambda training: training


SETTINGS = (
    Setting("", "DNK, whole"),
    Setting("no-spectral", "without the spectral term", lambda student: replace(student, spectral=0.0)),
    Setting("no-inverse", "without the inverse term", lambda student: replace(student, inverse=0.0)),
    Setting("no-weights", "without sample weights", lambda student: replace(student, weighted=False)),
    Setting("no-action", "without the action loss", lambda student: replace(student, action=0.0)),
    Setting(
        "single-lambda",
        "one λ instead of a mix",
        pairs=lambda pairs: replace(pairs, temperatures=(0.5,), probabilities=(1.0,)),
    ),
    Setting("ancestral", "pairs of an ancestral teacher", pairs=lambda pairs: replace(pairs, solver="ddpm")),
)
#: Of KDP: every piece is a setting of its configuration. "literal" leaves the drift at the mean of the data.
KDP_SETTINGS = (
    Setting("", "KDP, whole"),
    Setting("no-keying", "without keying", lambda student: replace(student, keyed=False)),
    Setting("self-negatives", "with self-negatives", lambda student: replace(student, negatives="kept")),
    Setting("attraction-only", "attraction only", lambda student: replace(student, repulsion="off")),
    Setting("attraction-literal", "attraction only, literally", lambda student: replace(student, repulsion="literal")),
    Setting("no-normalisation", "without normalisation", lambda student: replace(student, normalise=False)),
    Setting("single-temperature", "one temperature", lambda student: replace(student, temperatures=(0.05,))),
)
COLUMNS = (RETURN, WORST, UNSELECTED, SPREAD, DISTANCE)
NUMBERS = (NFE, RETURN, WORST, UNSELECTED, DISTANCE, LATENCY)
TERMINAL = (RETURN, WORST, UNSELECTED, DISTANCE)


def ablate(run: Path, preset: Preset, command: str, device: str = "cpu") -> Path:
    """Train and evaluate every variant; writes ``run/ablations/evaluation/comparison.json``.

    Raises:
        CheckpointError: the run has no teacher, selectors, pairs or DNK yet.
    """
    assert isinstance(preset.evaluate, ReturnsConfig)
    config = replace(preset.evaluate, crossed=(), decisions=min(preset.evaluate.decisions, 50))
    seeds = preset.stage("dnk").seeds
    for seed in seeds:  # said before any training, not after
        checkpoint_id(run / f"dnk-{seed}")
    most = load_config(run / TEACHER)["generator"]["n_steps"]
    planners = [
        Entry(Variant(method="teacher", selector=selector, steps=steps), run / TEACHER, seed)
        for steps in DDIM_STEPS
        if steps <= most
        for selector in ("iql", "none")
        for seed in range(config.teacher_seeds)
    ]  # the first, the whole teacher, says at which states candidates are compared
    planners += [
        Entry(Variant(method="dnk", selector="iql", candidates=count), run / f"dnk-{seed}", seed)
        for count in CANDIDATES
        for seed in seeds
    ]
    for setting in SETTINGS:
        for seed in seeds:
            folder = train(run, setting, seed, preset, device)
            for selector in ("iql", "none"):
                planners.append(Entry(Variant(method="dnk", selector=selector, setting=setting.name), folder, seed))
    return evaluate(run, config, command, device, name=str(FOLDER / "evaluation"), entries=planners)


def train(run: Path, setting: Setting, seed: int, preset: Preset, device: str = "cpu") -> Path:
    """Train DNK in one setting, on pairs of its own where it changes them; returns its folder."""
    assert preset.ablations is not None
    pairs, training = PAIRS, replace(preset.ablations.training, seed=seed)
    if setting.pairs is not None:
        pairs = str(FOLDER / f"pairs-{setting.name}")
        pairs_stage(run, setting.pairs(preset.stage("pairs").config), device, name=pairs)
    student, name = setting.student(preset.ablations.student), str(FOLDER / (setting.name or "dnk"))
    return train_method(
        run, METHODS["dnk"](), student, training, selector="iql", name=name, pairs=pairs, preset=preset.name
    )


def entries(run: Path, settings: Sequence[Setting], methods: Sequence[str], preset: Preset) -> list[Entry]:
    """Return methods of a preset in every setting, ranked and unranked; trains those that are not trained yet.

    The reference is the run's own. Only what the method's configuration or its training says differs.
    """
    found = []
    for method in methods:
        stage = preset.stage(method)
        assert stage.training is not None
        own = "task" if task_of(run).score is not None else stage.selector or "none"
        for setting, seed in product(settings, stage.seeds):
            folder = run / f"{method}-{seed}"
            if setting.name:
                config = setting.student(stage.complete().config)
                training = replace(setting.training(stage.training), seed=seed)
                name = str(FOLDER / f"{method}-{setting.name}")
                folder = train_method(
                    run, METHODS[method](), config, training, selector=stage.selector, name=name, preset=preset.name
                )
            for selector in dict.fromkeys((own, "none")):
                found.append(Entry(Variant(method=method, selector=selector, setting=setting.name), folder, seed))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def by_setting(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows that differ in their training alone, by what they are called."""
    found = {v.setting: rows[name] for name, v in _ranked(rows) if v.method == "dnk" and v.candidates is None}
    return {setting.label: found[setting.name] for setting in SETTINGS if setting.name in found}


def by_number(rows: Mapping[str, Row], what: str) -> dict[int, tuple[str, Row]]:
    """Return what the rows with a number of "steps" or of "candidates" are called, and they, by that number."""
    found = {getattr(v, what): (v.label, rows[name]) for name, v in _ranked(rows) if getattr(v, what) is not None}
    return dict(sorted(found.items()))


def _ranked(rows: Mapping[str, Row]) -> list[tuple[str, Any]]:
    return [(name, variant) for name, variant in variants(rows).items() if variant.selector == "iql"]


def settings_table(comparison: dict[str, Any]) -> Table:
    """Return a line per setting: mean ± standard deviation over training seeds."""
    return Table(COLUMNS, by_setting(comparison["rows"]), (generators(comparison),))


def numbers_table(comparison: dict[str, Any]) -> Table:
    """Return the teacher by its steps and DNK by its candidates."""
    decisions = counts(comparison["rows"].values(), LATENCY.metric)
    said = f"{generators(comparison)} Of latency: over {decisions} single decisions."
    return Table(NUMBERS, _numbered(comparison["rows"]), (said,))


def terminal_table(comparison: dict[str, Any]) -> rich.Table:
    """Return the main numbers for the end of a program, rows named and ordered as in the documents."""
    rows = by_setting(comparison["rows"]) | _numbered(comparison["rows"])
    return terminal(Table(TERMINAL, rows), f"{comparison['experiment']}: means over seeds")


def _numbered(rows: Mapping[str, Row]) -> dict[str, Row]:
    return dict([*by_number(rows, "steps").values(), *by_number(rows, "candidates").values()])


def tables(results: Path) -> dict[str, Table]:
    """Return the tables of every committed ablation."""
    made = {}
    for name, comparison in records(results / "locomotion").items():
        if name.endswith("-ablations"):
            made |= {name: settings_table(comparison), f"{name}-numbers": numbers_table(comparison)}
    return made


# --- one figure --------------------------------------------------------------------------------------------------


def figure(comparison: dict[str, Any]) -> Figure:
    """Return settings above (distance from the teacher, return), numbers of candidates and of steps below.

    A dot is a training seed, a stroke or line their mean.
    """
    rows = comparison["rows"]
    teacher, student = ({n: row for n, (_, row) in by_number(rows, what).items()} for what in ("steps", "candidates"))
    with rc_context(STYLE):
        made = Figure(figsize=(8, 5.8), layout="constrained")
        (distance, score), (candidates, steps) = made.subplots(2, 2)
        _settings(distance, rows, DISTANCE.metric, "first actions' distance from the teacher's")
        _settings(score, rows, RETURN.metric, "normalised return")
        score.set_yticklabels([])
        _curve(candidates, student, RETURN.metric, "dnk", "DNK, by the critic")
        candidates.set_xlabel("candidates")
        _curve(steps, teacher, RETURN.metric, "teacher", "teacher, by the critic")
        alone = {"linestyle": "--", "markerfacecolor": "white"}
        _curve(steps, teacher, UNSELECTED.metric, "teacher", "teacher, unselected", **alone)
        if 64 in student:
            whole = student[64][RETURN.metric]["mean"]
            steps.axhline(whole, color=colour("dnk"), linewidth=1, label="DNK, one call")
        steps.set_xlabel("network calls of the teacher (DDIM)")
        for panel in (candidates, steps):
            panel.set_ylabel("normalised return")
            panel.legend(fontsize=8)
    return made


def _settings(panel: Axes, rows: Mapping[str, Row], metric: str, title: str) -> None:
    whole = SETTINGS[0].label
    shown = {name: row[metric] for name, row in by_setting(rows).items() if metric in row}
    for place, (name, found) in enumerate(shown.items()):
        shade = colour("dnk") if name == whole else GREY
        values = found["per_seed"]
        panel.plot(values, np.full(len(values), place), "o", color=shade, alpha=0.7, markeredgewidth=0)
        panel.vlines(np.mean(values), place - 0.3, place + 0.3, color=shade, linewidth=1.5)
    if whole in shown:
        panel.axvline(shown[whole]["mean"], color=colour("dnk"), linewidth=0.7, linestyle=":", zorder=0)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_yticks(range(len(shown)), list(shown))
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=GRID, linewidth=0.6)
    panel.set_xlabel(title)


def _curve(panel: Axes, rows: Mapping[int, Row], metric: str, method: str, name: str, **look: Any) -> None:
    points = {n: row[metric]["per_seed"] for n, row in rows.items() if metric in row}
    for n, values in points.items():
        panel.plot(np.full(len(values), n), values, ".", color=colour(method), alpha=0.45, markeredgewidth=0)
    means = [float(np.mean(values)) for values in points.values()]
    panel.plot(list(points), means, color=colour(method), **({"marker": "o", "markersize": 4} | look), label=name)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xticks(list(points))
    panel.minorticks_off()
    panel.grid(axis="y", color=GRID, linewidth=0.6)
