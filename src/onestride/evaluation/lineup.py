"""Who is evaluated: rows of the table, each a generator's checkpoint and who selects among its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onestride.checkpoint import CONFIG, load_config
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.files import CheckpointError
from onestride.methods.guided import GuidedPlanner
from onestride.policy.policy import Policy, Precision, unselected
from onestride.runs.run import CRITIC, RETURNS, TEACHER, task_of, trained_methods
from onestride.runs.settings import ReturnsConfig
from onestride.selectors.iql import CriticOptions
from onestride.selectors.store import load_selector
from onestride.tasks.task import Selector

#: The end of a row's name -> what a reader calls the selector, in the order of every table.
SELECTORS = {
    "iql": "IQL",
    "engine": "IQL, engine",
    "int8": "IQL, engine in 8 bits",
    "mixture": "IQL, λ of training",
    "first": "IQL, first action",
    "classifier": "classifier",
    "unselected": "unselected",
}
AS_IN_TRAINING = ("mixture", "first")  # the critic ranks candidates that are drawn so
RANKING = ("iql", "mixture", "first", "classifier")  # those that choose, without engines
#: Rows that an engine decides -> whether in 8 bits; ranked by IQL.
ENGINES = {"engine": False, "int8": True}
DRAWS = 256  # decisions of an engine with noise of their own


@dataclass(frozen=True)
class Entry:
    """One line of the evaluation: a generator's checkpoint, its training seed and who selects."""

    row: str  # of the table
    seed: int
    folder: Path
    selector: str  # "iql", "returns", "none"; "mixture" and "first", see lineup; or one of ENGINES
    candidates: int | None = None  # other than the checkpoint's own
    steps: int | None = None  # of a teacher that samples by DDIM with so many calls


def parts(row: str) -> tuple[str, str]:
    """Generator and selector of a row: teachers are ranked by the classifier, students by IQL, if nothing is said."""
    generator, _, selector = row.rpartition("-")
    if selector in SELECTORS:
        return generator, selector
    return row, "classifier" if row == TEACHER else "iql"


def lineup(run: Path, config: ReturnsConfig) -> list[Entry]:
    """Rows as the paper names them: the teacher ranked by returns, students by IQL; then crossed, then unselected.

    Where the run's critic differs, "-mixture" has it rank candidates as they are drawn in training
    (``config.mixture``), and "-first" is IQL as the paper has it: that, by Q of the first action alone
    (``config.first_action``).
    """
    critic: dict[str, Any] = {"scored_steps": 1, "temperatures": []}
    if (run / CRITIC / CONFIG).is_file():
        critic |= load_config(run / CRITIC)["options"]
    entries = []
    for name, (row, seed) in trained_methods(run).items():
        whole = load_config(run / name)["plan"]["horizon"] == task_of(run).horizon
        if row == TEACHER:
            names = {"returns": row, "iql": f"{row}-iql"}
            seeds: Sequence[int] = range(config.teacher_seeds)
        else:
            names = {"iql": row} | ({"returns": f"{row}-classifier"} if whole and row in config.crossed else {})
            seeds = (seed,)
        if critic["temperatures"] and row in config.mixture:
            names["mixture"] = f"{row}-mixture"
        if critic["scored_steps"] > 1 and row in config.first_action:
            names["first"] = f"{row}-first"
        if row in config.engines:
            names |= {engine: f"{row}-{engine}" for engine in ENGINES}
        for selector, named in (names | {"none": f"{row}-unselected"}).items():
            entries += [Entry(named, s, run / name, selector) for s in seeds]
    if not entries:
        advice = f"train one with `onestride train teacher --run {run}`"
        raise CheckpointError(f"{run} holds no planner to evaluate; {advice}")
    order = {TEACHER: 0, "dnk": 1}
    return sorted(entries, key=lambda e: (order.get(e.row.split("-")[0], 2), e.row, e.seed))


def selector_folder(run: Path, entry: Entry) -> Path | None:
    """Where what ranks the entry's candidates is; None: nothing does."""
    return None if entry.selector == "none" else run / (RETURNS if entry.selector == RETURNS else CRITIC)


def policy_of(run: Path, entry: Entry, device: str, precision: Precision = "32-true") -> Policy | Engine:
    """The entry's planner with its selector; without one, a single candidate is drawn. Engines run on the CPU.

    precision: of a generator of many calls. One-step generators are in float32, as an engine runs them: their errors
    are what is measured, and they are quick enough.
    """
    if entry.folder.name != TEACHER:
        precision = "32-true"
    folder = selector_folder(run, entry)
    options = None
    if entry.selector in AS_IN_TRAINING:
        options = CriticOptions(1)
        if entry.selector == "mixture":
            options = replace(options, scored_steps=load_config(run / CRITIC)["options"]["scored_steps"])
    selector: Selector = unselected if folder is None else load_selector(folder, task_of(run), options)
    candidates = 1 if entry.selector == "none" else entry.candidates
    policy = _loaded(entry, device, selector=selector, candidates=candidates, precision=precision)
    if entry.selector in ENGINES:
        backend = preferred(policy, int8=ENGINES[entry.selector])
        return Engine.from_policy(policy, backend, threads=torch.get_num_threads(), draws=DRAWS)
    return policy


def all_candidates_of(entry: Entry, device: str) -> Policy:
    """The entry's planner as it is trained, with all its candidates and nobody who selects."""
    return _loaded(entry, device, selector=unselected)


def _loaded(entry: Entry, device: str, **settings: Any) -> Policy:
    policy = Policy.from_pretrained(entry.folder, device=device, **settings)
    if entry.steps is not None:
        planner = policy.generator.planner if isinstance(policy.generator, GuidedPlanner) else policy.generator
        planner.config = replace(planner.config, solver="ddim", sample_steps=entry.steps)
    return policy
