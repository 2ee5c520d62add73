"""The planners of a run as an evaluation has them: each variant with its checkpoint and its training's seed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onestride.checkpoint import CONFIG, load_config, plain, settings_of
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.methods import METHODS
from onestride.methods.settings import changed
from onestride.policy.policy import Policy, Precision, unselected
from onestride.runs.run import CRITIC, RETURNS, TEACHER, task_of, trained_methods
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.seals import digest
from onestride.selectors import SELECTORS
from onestride.selectors.store import load_selector

DRAWS = 256  # decisions of an engine with noise of their own


@dataclass(frozen=True)
class Entry:
    """One planner under evaluation. seed: of its training, or of noise and starts where it is trained once."""

    variant: Variant
    folder: Path
    seed: int = 0

    @property
    def row(self) -> str:
        return self.variant.row


def evaluation_variants(run: Path, config: EvaluateConfig | ReturnsConfig) -> list[Entry]:
    """Return a run's planners in every variant that its table shows, in the table's order.

    Raises:
        CheckpointError: there is nothing to evaluate, or nothing to compare.
    """
    task_of(run)  # that there is no data comes first
    trained = trained_methods(run)
    scenes = isinstance(config, EvaluateConfig)
    if scenes and ("teacher" not in trained or len(trained) < 2):
        found = ", ".join(trained) or "nothing"
        raise CheckpointError(f"{run} needs a teacher and a student to compare, found: {found}")
    if not trained:
        raise CheckpointError(
            f"{run} holds no planner to evaluate; train one with `onestride train teacher --run {run}`"
        )
    entries = []
    for name, (method, seed) in trained.items():
        rankings: list[dict[str, Any]] = [{"selector": "task"}] if scenes else _rankings(run, name, method, config)
        seeds = range(config.teacher_seeds) if method == TEACHER and not scenes else (seed,)
        if method == TEACHER and not scenes:
            rankings += _fewer_steps(run, name, rankings[0]["selector"], config)
        entries += [Entry(Variant(method=method, **ranking), run / name, s) for ranking in rankings for s in seeds]
    return sorted(entries, key=lambda e: (e.variant.order, e.seed))


def _rankings(run: Path, name: str, method: str, config: ReturnsConfig) -> list[dict[str, Any]]:
    """Return how a benchmark's table has one method's candidates ranked, as fields of a ``Variant``.

    By the selector that its checkpoint has, and not at all. Where the run has a critic and a return model, the teacher
    by both, and students by the return model where whole plans are there to be judged. Where the run's critic scores or
    samples otherwise than the paper's, also as the paper has it; by engines too.
    """
    task, config_of = task_of(run), load_config(run / name)
    own = "task" if task.score is not None else config_of.get("ranked_by", {}).get("kind", "none")
    rankings: list[dict[str, Any]] = [{"selector": which} for which in dict.fromkeys((own, "none"))]
    if method in config.engines and own != "none":
        # 8 bits need a native engine's selector, and its generator's fold.
        plain = own == "task" or task.control.cameras
        backends = ("engine",) if plain else ("engine", "engine-int8")
        rankings += [{"selector": own, "backend": backend} for backend in backends]
    if own not in (CRITIC, RETURNS):
        return rankings
    critic: dict[str, Any] = {"scored_steps": 1, "temperatures": []}
    if (run / CRITIC / CONFIG).is_file():
        critic |= load_config(run / CRITIC)["options"]
    whole = config_of["plan"]["horizon"] == task.control.horizon
    crossed = method == TEACHER or (whole and method in config.crossed)
    rankings += [{"selector": other} for other in (CRITIC, RETURNS) if other != own and crossed]
    if critic["temperatures"] and method in config.mixture:
        rankings.append({"selector": "iql", "sampling": "training"})
    if critic["scored_steps"] > 1 and method in config.first_action:
        rankings.append({"selector": "iql", "sampling": "training", "scored_steps": 1})
    return rankings


def _fewer_steps(run: Path, name: str, own: str, config: ReturnsConfig) -> list[dict[str, Any]]:
    """Return the rows of a teacher that is sampled by DDIM in ``config.teacher_steps``, as fields of a ``Variant``.

    Ranked as students are, by the run's critic where it has one and the task has no selector of its own, and not at
    all; by more steps than it decides with, not at all alone. A teacher that is no diffusion model of numbered noise
    levels has no such row.

    Raises:
        ValueError: more steps are asked for than the teacher has noise levels.
    """
    settings = load_config(run / name)["generator"]
    if "sample_steps" not in settings:
        return []
    if config.teacher_steps and max(config.teacher_steps) > settings["n_steps"]:
        raise ValueError(
            f"evaluate.teacher_steps asks for {max(config.teacher_steps)} steps of DDIM, and {run / name} has "
            f"{settings['n_steps']} noise levels; ask for at most as many"
        )
    usual = CRITIC if own == RETURNS and (run / CRITIC / CONFIG).is_file() else own
    selectors, deployed = dict.fromkeys((usual, "none")), settings["sample_steps"] or settings["n_steps"]
    return [
        {"selector": which, "steps": steps}
        for steps in config.teacher_steps
        for which in selectors
        if which == "none" or steps <= deployed
    ]


def policy_of(run: Path, entry: Entry, device: str, precision: Precision = "32-true") -> Policy | Engine:
    """Return the entry's planner with its selector. Engines run on the CPU.

    Args:
        precision: of a generator of many calls. One-step generators are in float32, as an engine runs them.
    """
    variant = entry.variant
    if entry.variant.method != TEACHER:
        precision = "32-true"
    settings: dict[str, Any] = {"precision": precision, "candidates": variant.candidates}
    settings["n_action_steps"] = variant.actions
    if variant.selector == "none":
        settings |= {"selector": unselected, "candidates": 1}
    elif (folder := _selector_folder(run, variant)) is not None:
        settings["selector"] = load_selector(folder, task_of(run), _options(folder, variant))
    policy = as_trained(entry, device, **settings)
    if variant.backend == "torch":
        return policy
    backend = preferred(policy, int8=variant.backend == "engine-int8")
    return Engine.from_policy(policy, backend, threads=torch.get_num_threads(), draws=DRAWS)


def _options(folder: Path, variant: Variant) -> Any:
    """How a selector ranks a variant's candidates: as it was stored, but for what the variant says."""
    config = load_config(folder)
    options = settings_of(type(SELECTORS[config["kind"]]().options), config["options"], folder / CONFIG)
    changes: dict[str, Any] = {}
    if variant.sampling == "training":
        changes |= {"temperatures": (), "probabilities": (), "temperature_penalty": 0.0}
    if variant.scored_steps is not None:
        changes["scored_steps"] = variant.scored_steps
    return replace(options, **{name: value for name, value in changes.items() if hasattr(options, name)})


def all_candidates_of(entry: Entry, device: str) -> Policy:
    """Return the entry's planner as it was trained, with all its candidates and no selector."""
    return as_trained(entry, device, selector=unselected)


def made_by(run: Path, entry: Entry) -> dict[str, Any]:
    """Return which training's checkpoint and selector an entry is made by, as its records say it."""
    folder, variant = _selector_folder(run, entry.variant), entry.variant
    made = {"checkpoint": load_config(entry.folder)["training"].get("id"), "selector": None}
    if folder is not None:
        config = load_config(folder)
        options = plain(asdict(_options(folder, variant)))
        made["selector"] = digest(json.dumps([config["training"]["id"], options], sort_keys=True).encode())
    return made


def _selector_folder(run: Path, variant: Variant) -> Path | None:
    if variant.selector in ("none", "task"):
        return None
    return run / variant.selector


def as_trained(entry: Entry, device: str, **settings: Any) -> Policy:
    """Return the entry's planner with the selector of its checkpoint; a teacher with the entry's steps."""
    policy = Policy.from_pretrained(entry.folder, device=device, **settings)
    if entry.variant.weight is not None:
        policy = policy.with_settings(changed(condition_weight=entry.variant.weight))
    if entry.variant.asked:
        policy.ask(**{name: value[0].tolist() for name, value in policy.asked.items()} | dict(entry.variant.asked))
    if entry.variant.steps is not None:
        policy = in_steps(policy, load_config(entry.folder)["kind"], entry.variant.steps)
    return policy


def in_steps(policy: Policy, method: str, steps: int) -> Policy:
    """Return a policy whose generator, of this method, is sampled in so many steps.

    Raises:
        ValueError: the method has but one way to be sampled.
    """
    stepped = METHODS[method]().stepped
    if stepped is None:
        raise ValueError(f"a planner of method '{method}' is sampled in its own steps alone, not in {steps}")
    return policy.with_settings(lambda config: stepped.settings(config, steps))
