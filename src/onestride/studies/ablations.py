"""What the paper claims but does not show: one piece of DNK taken away at a time, on pairs of one teacher.

Everything goes into ``<run>/ablations``, beside the table's own checkpoints, which it needs. Every setting has the same
budget, so its reference, the whole DNK, is trained anew with it. What needs no other training is the table's: its
teacher by fewer DDIM steps, and its DNK with 1 to 256 candidates. DNK without state-dependent gains (KDM-F) and a plain
MLP on the same pairs are rows of the table itself, with all of its budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onestride.checkpoint import load_config
from onestride.evaluation.entries import Entry
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.variant import Variant
from onestride.methods import METHODS
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.pairs import PairsConfig
from onestride.runs.run import PAIRS, TEACHER, checkpoint_id
from onestride.runs.settings import ReturnsConfig
from onestride.runs.stage import Preset
from onestride.runs.stages import pairs_stage, train_method

FOLDER = Path("ablations")
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DDIM_STEPS = (20, 10, 5, 2, 1)


@dataclass(frozen=True)
class Setting:
    """One training of DNK. name: of its variants, "" the reference. student, pairs: what it changes."""

    name: str
    student: Callable[[KoopmanConfig], KoopmanConfig] = lambda student: student
    pairs: Callable[[PairsConfig], PairsConfig] | None = None


SETTINGS = (
    Setting(""),
    Setting("no-spectral", lambda student: replace(student, spectral=0.0)),
    Setting("no-inverse", lambda student: replace(student, inverse=0.0)),
    Setting("no-weights", lambda student: replace(student, weighted=False)),
    Setting("no-action", lambda student: replace(student, action=0.0)),
    Setting("single-lambda", pairs=lambda pairs: replace(pairs, temperatures=(0.5,), probabilities=(1.0,))),
    Setting("ancestral", pairs=lambda pairs: replace(pairs, solver="ddpm")),
)


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
    entries = [
        Entry(Variant(method="teacher", selector=selector, steps=steps), run / TEACHER, seed)
        for steps in DDIM_STEPS
        if steps <= most
        for selector in ("iql", "none")
        for seed in range(config.teacher_seeds)
    ]  # the first, the whole teacher, says at which states candidates are compared
    entries += [
        Entry(Variant(method="dnk", selector="iql", candidates=count), run / f"dnk-{seed}", seed)
        for count in CANDIDATES
        for seed in seeds
    ]
    for setting in SETTINGS:
        for seed in seeds:
            folder = train(run, setting, seed, preset, device)
            for selector in ("iql", "none"):
                entries.append(Entry(Variant(method="dnk", selector=selector, setting=setting.name), folder, seed))
    return evaluate(run, config, command, device, name=str(FOLDER / "evaluation"), entries=entries)


def train(run: Path, setting: Setting, seed: int, preset: Preset, device: str = "cpu") -> Path:
    """Train DNK in one setting, on pairs of its own where it changes them; returns its folder."""
    assert preset.ablations is not None
    pairs, training = PAIRS, replace(preset.ablations.training, seed=seed)
    if setting.pairs is not None:
        pairs = str(FOLDER / f"pairs-{setting.name}")
        pairs_stage(run, setting.pairs(preset.stage("pairs").config), device, name=pairs)
    student, name = setting.student(preset.ablations.student), str(FOLDER / (setting.name or "dnk"))
    return train_method(run, METHODS["dnk"](), student, training, selector="iql", name=name, pairs=pairs)
