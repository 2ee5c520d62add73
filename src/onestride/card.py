"""Model cards: the README.md beside a checkpoint or in an exported folder, made of what is stored there already.

Its head is YAML that a model hub reads. No digest lists the card, so it may be edited; it is written anew with the
checkpoint. A licence is left to whoever shares the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onestride.files import write_atomically

CARD = "README.md"
NOT_EVALUATED = "No result is stored here."
LIMITS = (
    "It knows the task, the body and the range of observations that it was trained on. Elsewhere its plans are wrong "
    "and no error says so.",
    "On hardware, check every command against the robot's own limits, and have an emergency stop at hand.",
)
_POLICY = """from onestride import Policy

policy = Policy.from_pretrained("path/to/this/folder")
action = policy.decide(observation).action"""
_ENGINE = """from onestride import Engine

engine = Engine.from_folder("path/to/this/folder")  # no torch
action = engine.decide(observation).action"""
_SELECTOR = """from onestride import Policy

policy = Policy.from_pretrained("path/to/a/planner", selector="path/to/this/folder")
action = policy.decide(observation).action"""

Rows = list[tuple[str, str]]


def write_card(folder: Path, text: str) -> None:
    """Write a folder's card, atomically."""
    write_atomically(folder / CARD, lambda path: path.write_text(text))


def checkpoint_card(config: Mapping[str, Any], results: str = NOT_EVALUATED) -> str:
    """Return the card of a checkpoint, of its config as ``config.json`` has it.

    results: what was measured, as Markdown.
    """
    kind, task = str(config["kind"]), str(config["task"])
    training = config.get("training") or {}
    if "plan" in config:
        what = f"`{kind}` makes plans for the task `{task}`{_calls(config.get('nfe'))}."
        rows = [*_control(config.get("control") or {}), *_plan(config), *_training(training)]
        return _card(f"{kind} for {task}", (kind, task), what, rows, _POLICY, results, config)
    if "selector" in config:
        what = f"`{kind}` is a selector: it ranks candidate plans of the task `{task}` and makes none."
        return _card(f"{kind} for {task}", (kind, task), what, _training(training), _SELECTOR, results, config)
    what = f"`{kind}` is a part of a training for the task `{task}`; it makes no plans."
    return _card(f"{kind} for {task}", (kind, task), what, _training(training), None, results, config)


def exported_card(contract: Mapping[str, Any], results: str = NOT_EVALUATED) -> str:
    """Return the card of an exported folder, of its contract as ``contract.json`` has it."""
    made_of, task = contract.get("checkpoint") or {}, str(contract["task"])
    kind, form = str(made_of.get("kind")), str(contract.get("format", "onnx"))
    runs_by = "ONNX Runtime" if form == "onnx" else "the C engine"
    what = f"`{kind}` for the task `{task}`, exported to run by {runs_by} in {contract.get('precision')}"
    observed, action = contract["inputs"]["observation"], contract["outputs"]["action"]
    control = {
        "observation_dim": observed["shape"][-1],
        "layout": observed.get("layout"),
        "fields": [[each["name"], each["shape"], each["unit"]] for each in observed.get("fields", ())],
        "n_obs_steps": observed.get("n_obs_steps", 1),
        "action_low": action.get("low"),
        "action_high": action.get("high"),
        "control_dt": contract.get("control_dt_s"),
    }
    rows = [*_control(control), ("candidates", str(contract.get("candidates")))]
    if plan := contract["outputs"].get("plan"):
        rows.append(("plan", f"{' x '.join(map(str, plan['shape']))} (rows, columns)"))
    rows += [("selector", str(contract.get("selector"))), *_training(made_of)]
    tags = (kind, task, form)
    return _card(f"{kind} for {task}, exported", tags, f"{what}{_calls(contract.get('nfe'))}.", rows, _ENGINE, results,
                 contract)  # fmt: skip


def _calls(nfe: int | None) -> str:
    return "" if nfe is None else f", {nfe} network call{'s' * (nfe != 1)} per decision"


def _control(said: Mapping[str, Any]) -> Rows:
    """What is observed and commanded, and how often."""
    rows: Rows = []
    if "observation_dim" in said:
        times = f", the last {n} observations" if (n := said.get("n_obs_steps", 1)) > 1 else ""
        rows.append(("observation", f"{said['observation_dim']} numbers{times}: {said.get('layout')}"))
    sized = [(name, " x ".join(map(str, shape)) or "1", unit) for name, shape, unit in said.get("fields") or ()]
    if sized:
        rows.append(("its fields", ", ".join(f"`{name}` {n}{f' [{unit}]' * bool(unit)}" for name, n, unit in sized)))
    if (low := said.get("action_low")) is not None:
        high = said.get("action_high") or []
        rows.append(("action", f"{len(low)} numbers in the robot's units, from {_numbers(low)} to {_numbers(high)}"))
    if said.get("n_action_steps", 1) > 1:
        rows.append(("actions carried out per decision", str(said["n_action_steps"])))
    if (period := said.get("control_dt")) is not None:
        rows.append(("control period", f"{period:g} s"))
    return rows


def _numbers(values: Sequence[float | None]) -> str:
    """One number where all are the same."""
    said = ["none" if value is None else f"{value:g}" for value in values]
    return said[0] if len(set(said)) == 1 else f"[{', '.join(said)}]"


def _plan(config: Mapping[str, Any]) -> Rows:
    plan = config["plan"]
    columns = f"{plan['state_dim']} of the state, {plan['action_dim']} of the action"
    rows = [("plan", f"{plan['horizon']} rows, one per control period; columns: {columns}")]
    if plan.get("conditions"):
        rows.append(("may be asked for", ", ".join(f"{name} ({size})" for name, size in plan["conditions"])))
    if plan.get("prefix"):
        rows.append(("committed actions", f"up to {plan['prefix']}"))
    rows.append(("candidates per decision", str(config["candidates"])))
    if ranked := config.get("ranked_by"):
        rows.append(("ranked by", f"{ranked.get('kind')} (training {ranked.get('id')})"))
    if config.get("guidance"):
        rows.append(("guidance", f"{config['guidance']:g}, by a return model"))
    return rows


def _training(training: Mapping[str, Any]) -> Rows:
    """How it was trained, and on what."""
    rows: Rows = []
    if (identity := training.get("id")) is not None:
        rows.append(("training", str(identity)))
    if (steps := training.get("steps")) is not None:
        rows.append(("optimisation steps", f"{steps:,}"))
    if (seed := training.get("seed", (training.get("config") or {}).get("seed"))) is not None:
        rows.append(("seed", str(seed)))
    if adopted := training.get("adopted"):
        rows.append(("trained by", f"{adopted.get('from')}, elsewhere; taken from {adopted.get('source')}"))
    learnt_from = training.get("data") or {}
    if not learnt_from:
        rows.append(("data", "not recorded"))
    for name, title in (("data", "data"), ("source", "data of another body")):
        if name in learnt_from:
            rows.append((title, _data(learnt_from[name])))
    return rows


def _data(said: Mapping[str, Any]) -> str:
    """A data set by its name, size and digest."""
    name = said.get("dataset") or said.get("source")
    parts: list[str] = [f"`{name}`" if name else "collected by the program"]
    if said.get("behaviours"):
        parts.append(f"by {', '.join(said['behaviours'])}")
    counted = [f"{said[key]:,} {key.removeprefix('total_')}" for key in ("episodes", "total_steps") if said.get(key)]
    parts += counted
    parts += [f"{key} {said[key]}" for key in ("seed", "content") if said.get(key) is not None]
    return ", ".join(parts)


def _card(
    title: str, tags: Sequence[str], what: str, rows: Rows, load: str | None, results: str, said: Mapping[str, Any]
) -> str:
    """Return the head for a hub, then the text for people."""
    quoted = "\n".join(f"- {json.dumps(tag)}" for tag in dict.fromkeys(("robotics", "onestride", *tags)))
    head = f"---\nlibrary_name: onestride\npipeline_tag: robotics\ntags:\n{quoted}\n---\n"
    versions = ", ".join(f"{name} {version}" for name, version in (said.get("versions") or {}).items())
    table = "\n".join(f"| {name} | {' '.join(value.replace('|', ' ').split())} |" for name, value in rows)
    parts = [head, f"# {title}\n", what, f"\n| | |\n| --- | --- |\n{table}\n\nMade with {versions}.\n"]
    if load is not None:
        parts.append(f"## Load\n\n```python\n{load}\n```\n")
    parts.append(f"## Results\n\n{results}\n")
    parts.append("## Limits\n\n" + "\n".join(f"- {each}" for each in LIMITS) + "\n")
    return "\n".join(parts)
