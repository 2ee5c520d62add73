"""What the studies of the KDP paper have in common: presets, ways to evaluate what was trained, a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from onestride.checkpoint import CONFIG, load_config
from onestride.data.actors import read_behaviours
from onestride.evaluation.entries import Entry, as_trained, evaluation_variants
from onestride.evaluation.evaluate import Reference, evaluate
from onestride.evaluation.provenance import preset_notes
from onestride.evaluation.records import SHOWN
from onestride.evaluation.result import read_experiment
from onestride.evaluation.variant import Variant
from onestride.latency.bench import bench
from onestride.policy.store import load_parts
from onestride.reports import page
from onestride.reports.documents import records
from onestride.reports.figures_bodies import contexts_figure
from onestride.reports.figures_routes import routes_figure
from onestride.reports.motions import read_arrays
from onestride.reports.style import save
from onestride.reports.table import Table, terminal, variants
from onestride.runs import presets
from onestride.runs.presets.kdp import with_kdp
from onestride.runs.run import CONTEXTS, TEACHER, task_of
from onestride.runs.settings import BenchConfig, EvaluateConfig, ReturnsConfig
from onestride.runs.stage import Preset
from onestride.seals import digest
from onestride.studies import STUDIES, ablations, across, dnk_table1, locomotion_page
from onestride.studies.dnk_table1 import LATENCY, SPEED_UP
from onestride.studies.study import Evaluate, Job, Outcome, Study
from onestride.tasks.mazes.maps import MAZES
from onestride.tasks.reference import reference
from onestride.tasks.task import Task

METHODS = ("kdp", "kdp-paper", "bc", "iql-policy", "fql", "dnk", "kdm", "mlp")
FEWER_STEPS = (1, 2, 5, 10)  # of the teacher, by DDIM
FILMED = (TEACHER, "kdp", "dnk", "kdm")
LONG = 128  # rows of a plan, from which a teacher is slow
DRAWN = (TEACHER, "kdp", "kdp-paper")  # into their maze
TEMPLATE = Path(__file__).with_name("study_page.html.j2")
LOCOMOTION = tuple(
    f"{body}-{level}" for body in ("halfcheetah", "hopper", "walker2d") for level in ("medium-expert", "medium")
)
POINT_MAZES = tuple(f"pointmaze-{size}" for size in ("umaze", "medium", "large"))
ANT_MAZES = tuple(f"antmaze-{size}" for size in ("umaze", "medium", "large"))
HANDS = tuple(f"adroit-{what}" for what in ("pen", "door", "hammer", "relocate"))


def preset(dataset: str, budget: str) -> Preset:
    """Return a data set's own preset with what the paper's tables compare."""
    return with_kdp(presets.of_dataset(dataset, budget), dataset, tiny=budget == "tiny")


# --- ways to evaluate --------------------------------------------------------------------------------------------


def returns(preset: Preset) -> EvaluateConfig | ReturnsConfig:
    """Return how a preset's planners are evaluated here: unranked, in fewer steps and by the engine too."""
    config, most = preset.evaluate, getattr(preset.stage(TEACHER).config, "n_steps", 0)
    if isinstance(config, EvaluateConfig):
        return config
    return replace(
        config, crossed=("kdp", "kdp-paper", "kdm", "mlp"), engines=("kdp",), mixture=(), first_action=(),
        teacher_steps=tuple(steps for steps in FEWER_STEPS if steps <= most),
    )  # fmt: skip


def demonstrator(job: Job) -> Reference | None:
    """Return the task's demonstrator as a row; None: it has none that starts where planners do, or wants an actor."""
    task = task_of(job.run)
    if task.demonstrations is None or (task.needs_actor and not job.behaviours):
        return None
    actors = read_behaviours(job.behaviours) if task.needs_actor else ()
    own = task.demonstrations_by(actors)
    if own.reference is None:
        return None
    identity = digest(json.dumps(own.metadata, sort_keys=True).encode())
    return Reference(identity, lambda seeds: reference(task.name, seeds, actors))


def compared(study: Study, job: Job) -> Outcome:
    """Evaluate every method as its task is, with and without whoever ranks its candidates."""
    config, beside = returns(job.preset), demonstrator(job)
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, reference=beside)
    return outcome(study, job, folder)


def by_actions(study: Study, job: Job, counts: tuple[int, ...] = (1, 8)) -> Outcome:
    """Evaluate what is earned where so many actions of a plan are carried out before the next one is made.

    On CPU cores a teacher of many calls that chooses among many long plans at every step takes longer than all the
    others together: it does so in the full budget alone. Unranked, where it makes one candidate, it always does.
    """
    config, beside = returns(job.preset), demonstrator(job)
    planners = [
        e for e in evaluation_variants(job.run, config) if e.variant.method in (TEACHER, *(study.methods or ()))
    ]
    rows = {entry.folder: load_config(entry.folder)["plan"]["horizon"] for entry in planners}
    entries = [
        replace(entry, variant=replace(entry.variant, actions=count))
        for count in counts
        for entry in planners
        if count <= rows[entry.folder] and affordable(entry.variant, count, counts, job, rows[entry.folder])
    ]
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=entries, reference=beside)
    return outcome(study, job, folder)


def affordable(variant: Variant, actions: int, counts: tuple[int, ...], job: Job, rows: int) -> bool:
    """Return whether a row is evaluated that makes plans of so many rows and carries out so many actions of each."""
    if variant.method != TEACHER:
        return True
    always = job.budget == "full" or rows < LONG
    if variant.steps is not None:  # the teacher by fewer steps, once
        return actions == counts[0 if always else -1]
    return always or actions > 1 or variant.selector == "none"


def on_wall_time(study: Study, job: Job) -> Outcome:
    """Evaluate on wall time, in scenes whose clock goes on while a planner decides."""
    config = job.preset.evaluate
    if isinstance(config, ReturnsConfig):
        config = EvaluateConfig(trials=config.episodes, timeout=60.0 if job.budget != "tiny" else 1.0)
    config = replace(config, clock="real")
    entries = []
    for entry in evaluation_variants(job.run, config):
        entries.append(entry)
        entries.append(replace(entry, variant=replace(entry.variant, selector="none")))
        if entry.variant.method == "kdp":
            entries.append(replace(entry, variant=replace(entry.variant, backend="engine")))
    entries.sort(key=lambda e: (e.variant.order, e.seed))
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=entries)
    return outcome(study, job, folder)


def ablated(study: Study, job: Job) -> Outcome:
    """Train and evaluate KDP with one piece taken away at a time."""
    config = returns(job.preset)
    entries = ablations.entries(job.run, ablations.KDP_SETTINGS, ("kdp", "kdp-paper"), job.preset)
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=entries)
    return outcome(study, job, folder)


def timed(study: Study, job: Job) -> Outcome:
    """Time decisions of Diffuser, by fewer steps and as one graph too, and of KDP, in the engine too, all in turns."""
    run, out = job.run, job.run / study.name / "comparison.json"
    first = run / f"kdp-{job.preset.stage('kdp').seeds[0]}"
    most = load_config(run / TEACHER)["generator"]["n_steps"]
    of = {TEACHER: Variant(method=TEACHER, selector="task"), "student": Variant(method="kdp", selector="task")}
    of |= {f"{TEACHER}-ddim-{n}": replace(of[TEACHER], steps=n) for n in FEWER_STEPS if n <= most}
    if not out.exists():
        policies = {
            name: as_trained(Entry(v, run / TEACHER if v.method == TEACHER else first), job.device)
            for name, v in of.items()
        }
        of |= {f"{TEACHER}-optimised": replace(of[TEACHER], backend="engine")}
        of |= {"engine": replace(of["student"], backend="engine")}
        of |= {"engine-int8": replace(of["student"], backend="engine-int8")}
        rounds = 40 if job.budget != "tiny" else 2
        config = BenchConfig(candidates=(1, 16, 64), rounds=rounds)
        bench(run, job.preset, config, job.command, out, job.device, policies=policies, variants=of)
    return outcome(study, job, out.parent)


# --- page and tables ---------------------------------------------------------------------------------------------


def outcome(
    study: Study, job: Job, folder: Path, figures: Mapping[str, Callable[[dict[str, Any]], Figure]] | None = None
) -> Outcome:
    """Make the page of a data set's evaluation: the study's table as far as it has come, and what else each row is.

    figures: of the study's own, by their file: what they are made of the result by.
    """
    files = {dataset: study.folder_of(job, dataset) / "comparison.json" for dataset in study.datasets}
    made = across.table(study, {d: read_experiment(file) for d, file in files.items() if file.exists()})
    comparison = page.read_comparison(folder)
    narrow = replace(study, columns=study.columns[:4])
    ended = terminal(across.table(narrow, {job.dataset: comparison}, beside=False), f"{study.name}: means")
    by_returns = "episodes" in comparison["config"].get("evaluate", {})
    tables = {study.about: made}
    if by_returns:
        tables["What else each row is"] = dnk_table1.detail_table(comparison)
        tables["What the generators make"] = dnk_table1.generators_table(comparison)
    makers = None
    if by_returns and job.pictures:
        filmed = [method for method in FILMED if method in comparison["rows"]]
        made_by = locomotion_page.makers(folder, job.run, comparison, job.device, filmed)
        makers = {files: make for files, make in made_by.items() if filmed or "frames.png" not in files}
        if plans_ways(task_of(job.run)):
            makers[("routes.png",)] = lambda: draw_routes(folder, job, comparison)
        if (job.run / CONTEXTS / CONFIG).exists():
            makers[("contexts.png",)] = lambda: save(contexts_figure(job.run), folder / "contexts.png")
        for file, draw in (figures or {}).items():
            makers[(file,)] = lambda file=file, draw=draw: save(draw(comparison), folder / file)
    values = {
        "title": f"{study.name}: {job.dataset}",
        "lead": f"{study.about}. {job.preset.about}.",
        "headline": headline(study, comparison),
        "tables": tables,
        "pictures": [file for files in makers or () for file in files],
    }
    out = page.write(folder, job.run, TEMPLATE, values, makers, job.run / f"{folder.name}.html")
    return Outcome(folder, out, ended, preset_notes(comparison["config"]))


def plans_ways(task: Task) -> bool:
    """Return whether plans are whole ways through the task's maze: their last row is given. An ant's end on the way."""
    return task.name in MAZES and any(block.row == -1 for block in task.known or ())


def draw_routes(folder: Path, job: Job, comparison: dict[str, Any]) -> None:
    """Draw the candidates of some states into their maze: Diffuser's, and those of both forms of KDP."""
    first: dict[str, tuple[str, Variant]] = {}  # of each planner one generator: candidates are the same in all
    for variant in variants(comparison["rows"]).values():
        if variant.method in DRAWN and variant.steps is None:
            first.setdefault(variant.method, (variant.generator, variant))
    found = dict(first[method] for method in DRAWN if method in first)
    scale = load_parts(job.run / TEACHER)[0].normalizer
    plans = read_arrays(folder / SHOWN, found, (), ("plans",))[1]["plans"]
    made = {v: scale.unnormalize(torch.from_numpy(each).float())[..., :2].numpy() for v, each in plans.items()}
    save(
        routes_figure(job.preset.task, {replace(v, actions=None): each for v, each in made.items()}),
        folder / "routes.png",
    )


def headline(study: Study, comparison: dict[str, Any]) -> list[page.Card]:
    """Return KDP's main numbers beside Diffuser's by the same selector."""
    found = {variant: comparison["rows"][row] for row, variant in variants(comparison["rows"]).items()}
    usual = next((variant for variant in found if variant.method == "kdp"), None)
    beside = None if usual is None else replace(usual, method=TEACHER)
    if usual is None or beside not in found:
        return []
    rows = {TEACHER: found[beside], "kdp": found[usual]}
    shown = study.columns[0]
    return page.headline(rows, {shown: (shown.heading, shown), SPEED_UP: ("times faster", LATENCY)})


def tables(results: Path) -> dict[str, Table]:
    """Return the table of every study of KDP, and of those made alike, that has a committed result."""
    made = {}
    for name in STUDIES:
        if name.startswith(("kdp-", "onedp-", "off-dynamics-")) and (found := records(results / name)):
            made[name] = across.table(STUDIES[name](), found)
    return made


def study(name: str, about: str, families: Mapping[str, tuple[str, ...]], evaluate: Evaluate, **fields: Any) -> Study:
    """Return a study of the KDP paper."""
    made: dict[str, Any] = {"methods": METHODS} | fields
    return Study(name=name, about=about, families=families, preset=preset, evaluate=evaluate, results=name, **made)
