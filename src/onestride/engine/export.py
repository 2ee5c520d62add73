"""An exported engine: one folder that runs without this library, by ONNX Runtime or by a C compiler alone.

    model.onnx      the decision, or program.bin with decide.c and what it includes
    contract.json   what goes in and comes out, and of what it was made
    example.py      acts with it, as example.cpp or example.c
    SHA256SUMS      of all of them (``sha256sum -c SHA256SUMS``)
    README.md       the model card, which may be edited

Nothing is there before it has been compared with the policy it was made of.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onestride.card import NOT_EVALUATED, exported_card, write_card
from onestride.checkpoint import MODEL
from onestride.engine.building import SOURCES
from onestride.engine.examples import examples
from onestride.engine.folder import CHECKSUMS, CONTRACT, DECIDES, Format
from onestride.engine.graph import OPSET, write_graph
from onestride.engine.native import NativeRunner, Precision
from onestride.engine.program import write_program
from onestride.engine.runners import ASKED, COMMITTED, Bound, OnnxRunner
from onestride.engine.whole import DecisionModule, decision_module
from onestride.files import clear_abandoned, ensure_writable, temporary_folder, versions, write_json
from onestride.plans.asking import Asking
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.robot.control_spec import numbers_of
from onestride.seals import sha256
from onestride.selectors.iql import CriticSelector

TIE = 1e-4  # scores nearer than this share of their spread are the same in float32
TOLERANCE = 1e-4  # of an action, in halves of its limits' range, float32 against float32
DECISIONS = 128  # compared with the policy's own


class ExportError(ValueError):
    """What was written does not decide as the policy does, or cannot be put where it was asked for."""


@dataclass(frozen=True)
class Agreement:
    """How an exported engine decides beside its policy, with the same noise."""

    decisions: int
    same_winner: int
    ties: int  # another winner whose score, by the policy, is that of the best but for rounding
    action_error_p50: float  # in halves of the limits' range, where the winner is the same
    action_error_max: float

    @property
    def whole(self) -> bool:
        """Whether the two are the same but for rounding."""
        return self.same_winner + self.ties == self.decisions and self.action_error_max <= TOLERANCE


def export(
    policy: Policy,
    out: Path,
    *,
    form: Format = "onnx",
    precision: Precision = "float32",
    draws: int,
    seed: int,
    checkpoint: Path | None,
    plan: bool = True,
    results: str | None = None,
) -> Agreement:
    """Write the folder ``out``, whole or not at all. plan: the winner's plan is given too.

    results: what was measured of the checkpoint, as Markdown, for the card.

    Raises:
        ExportError: it is there already, or float32 decides otherwise than the policy.
        NoEngineError: the policy has no engine, nothing ranks its plans, or it is no native program.
        ImportError: the export extra is not installed; NativeError: there is no C compiler to compare with.
    """
    if out.exists():
        raise ExportError(f"{out} is there already; name another folder, or remove it first")
    ensure_writable(out.parent)
    decision = decision_module(policy, draws=draws, seed=seed, plan=plan)
    clear_abandoned(out.parent, out.name)
    folder = temporary_folder(out)
    try:
        runner = _written(decision, folder, form, precision)
        if policy.asked_numbers.size:
            runner.ask(policy.asked_numbers)
        agreement = compare(runner, policy, draws, seed)
        if not (agreement.whole or precision == "int8"):
            raise ExportError(f"what was made does not decide as the policy does: {agreement}; nothing was written")
        said = contract(policy, runner, agreement, form, precision, draws, seed, checkpoint)
        write_json(folder / CONTRACT, said)
        for name, text in examples(form, policy, draws, plan).items():
            (folder / name).write_text(text)
        sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
        (folder / CHECKSUMS).write_text("".join(sums))
        write_card(folder, exported_card(said, results or NOT_EVALUATED))
        folder.chmod(0o755)
        os.rename(folder, out)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, f"could not write {out}, the disk is full; nothing was written") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return agreement


def _written(decision: DecisionModule, folder: Path, form: Format, precision: Precision) -> Bound:
    """What decides, on disk and running."""
    path = folder / DECIDES[form]
    if form == "onnx":
        write_graph(decision, path, int8=precision == "int8")
        return OnnxRunner(path.read_bytes(), threads=1)
    path.write_bytes(write_program(decision, precision))
    for source in SOURCES:
        shutil.copy(source, folder / source.name)
    return NativeRunner(path.read_bytes(), 1, "native" if precision == "float32" else f"native-{precision}")


def compare(runner: Bound, policy: Policy, draws: int, seed: int, decisions: int = DECISIONS) -> Agreement:
    """What was exported beside the plain policy: real first observations, the policy's own noise."""
    task = policy.task
    observations = [np.asarray(task.first_observation(s), np.float64) for s in task.scenes(8, seed)]
    half = (policy.control.limits.high - policy.control.limits.low) / 2
    errors, ties = [], 0
    with track("comparing", decisions) as bar:
        for i in range(decisions):
            if i % draws == 0:
                policy.reset(seed)
            observation = observations[i % len(observations)]
            wanted = policy.decide(observation)
            answer = runner.run(observation.astype(np.float32), i % draws)
            if answer.winner == int(np.nanargmax(wanted.scores)):
                errors.append(float(np.abs((answer.action - wanted.action) / half).max()))
            else:
                lost = np.nanmax(wanted.scores) - wanted.scores[answer.winner]
                ties += bool(lost <= TIE * np.nanstd(wanted.scores))
            bar.update(i + 1)
    p50, largest = (float(np.median(errors)), max(errors)) if errors else (float("inf"), float("inf"))
    return Agreement(decisions, len(errors), ties, p50, largest)


def contract(
    policy: Policy,
    runner: Bound,
    agreement: Agreement,
    form: Format,
    precision: Precision,
    draws: int,
    seed: int,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """What a program that loads the folder has to know."""
    control, limits = policy.control, policy.control.limits
    types = {np.float32: "float32", np.int64: "int64"}
    said = {v.name: {"dtype": types[v.dtype], "shape": list(v.shape)} for v in (*runner.inputs, *runner.outputs)}
    units = "as the task's robot gives and takes them: SI and the base frame, or the environment's own; not normalised"
    said["observation"] |= {"units": units, "layout": control.layout}
    if control.fields:  # packed one after the other, of each of the last observations, the oldest first
        said["observation"]["fields"] = [
            {"name": f.name, "shape": list(f.shape), "unit": f.unit} for f in control.fields
        ]
        said["observation"]["n_obs_steps"] = control.n_obs_steps
    if ASKED in said:
        asking = Asking.of(policy.generator)
        usual = [None if np.isnan(number) else float(number) for number in policy.asked_numbers]
        said[ASKED] |= {"names": asking.names, "sizes": asking.sizes, "low": asking.low.tolist()}
        said[ASKED] |= {
            "high": asking.high.tolist(),
            "usual": usual,
            "what": "conditions in this order; NaN: not asked",
        }
    if COMMITTED in said:
        said[COMMITTED] |= {"what": "action columns of a plan's first rows, not normalised; NaN: not committed"}
    said["draw"] |= {"low": 0, "high": draws - 1, "what": "which noise: the decision's number modulo draws"}
    said["action"] |= {"units": units, "low": limits.low.tolist(), "high": limits.high.tolist()}
    said["action"]["max_step"] = limits.max_step  # from observation[:A]; null: no such limit
    said["score"] |= {"what": "the winner's, higher is better; not finite: no candidate is, send nothing"}
    said["scores"] |= {"what": "of all candidates"}
    if "plan" in said:
        said["plan"] |= {"what": "the winner's, in task units: rows of [state, action], the first at the observation"}
    own = policy.config.get("training")
    own = own if isinstance(own, dict) else {}
    return {
        "schema": 1,
        "format": form,
        "task": control.name,
        "inputs": {v.name: said[v.name] for v in runner.inputs},
        "outputs": {v.name: said[v.name] for v in runner.outputs},
        "normalisation": "inside",
        "limits": "inside for environments' actions; for a robot, refuse what is out of them and hold",
        "control": numbers_of(control) if control.plain else None,
        "control_dt_s": control.control_dt,
        "control_hz": 1 / control.control_dt,
        "candidates": policy.candidates,
        "nfe": policy.nfe,
        "draws": draws,
        "seed": seed,
        "selector": _selector_name(policy),
        "precision": precision,
        "opset": OPSET if form == "onnx" else None,
        "checkpoint": {
            "id": own.get("id"),
            "steps": own.get("steps"),
            "seed": (own.get("config") or {}).get("seed"),
            "data": own.get("data"),
            "kind": policy.config.get("kind"),
            "sha256": sha256(checkpoint / MODEL) if checkpoint is not None else None,
        },
        "compared_with_the_policy": {
            name: value if np.isfinite(value) else None for name, value in vars(agreement).items()
        },
        "checksums": "SHA256SUMS guards against accidents, not against people: nobody signs it",
        "versions": versions(),
    }


def _selector_name(policy: Policy) -> str:
    if policy.selector is policy.task.score:
        return "the task's own"
    return "iql" if isinstance(policy.selector, CriticSelector) else type(policy.selector).__name__
