"""What the paper claims but does not show: one piece of DNK taken away at a time, on pairs of one teacher.

Everything goes into ``<run>/ablations``, beside the table's own checkpoints, which it needs. Every variant has the
same budget, so its reference (``dnk``) is trained anew with it. What needs no other training is the table's: its
teacher by fewer DDIM steps, and its DNK with 1 to 256 candidates. DNK without state-dependent gains (KDM-F) and a plain
MLP on the same pairs are rows of the table itself, with all of its budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onestride.checkpoint import load_config
from onestride.evaluation.benchmark import benchmark
from onestride.evaluation.lineup import Entry
from onestride.methods import METHODS
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.pairs import PairsConfig
from onestride.runs.run import PAIRS, TEACHER, checkpoint_id
from onestride.runs.settings import ReturnsConfig
from onestride.runs.stages import pairs_stage, train_method
from onestride.training.config import TrainConfig

FOLDER = Path("ablations")
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DDIM_STEPS = (20, 10, 5, 2, 1)
#: Students that differ from DNK, on the table's pairs.
OTHER_STUDENTS: dict[str, Callable[[KoopmanConfig], KoopmanConfig]] = {
    "dnk": lambda student: student,
    "no-spectral": lambda student: replace(student, spectral=0.0),
    "no-inverse": lambda student: replace(student, inverse=0.0),
    "no-weights": lambda student: replace(student, weighted=False),
    "no-action": lambda student: replace(student, action=0.0),
}
#: DNK on pairs that differ from the table's.
OTHER_PAIRS: dict[str, Callable[[PairsConfig], PairsConfig]] = {
    "single-lambda": lambda pairs: replace(pairs, temperatures=(0.5,), probabilities=(1.0,)),
    "ancestral": lambda pairs: replace(pairs, solver="ddpm"),
}


@dataclass(frozen=True)
class AblationConfig:
    """The variants' common budget."""

    training: TrainConfig
    pairs: PairsConfig
    evaluate: ReturnsConfig
    seeds: tuple[int, ...] = (0, 1, 2)


def ablate(run: Path, student: KoopmanConfig, config: AblationConfig, command: str, device: str = "cpu") -> Path:
    """Train and evaluate every variant; writes ``run/ablations/evaluation/comparison.json``.

    Raises:
        CheckpointError: the run has no teacher, selectors, pairs or DNK yet.
    """
    entries = [*fewer_steps(run, config), *fewer_candidates(run, config)]  # the whole teacher's states are compared at
    for name in (*OTHER_STUDENTS, *OTHER_PAIRS):
        for seed in config.seeds:
            trained = train_variant(run, name, seed, student, config, device)
            entries += [Entry(name, seed, trained, "iql"), Entry(f"{name}-unselected", seed, trained, "none")]
    return benchmark(run, config.evaluate, command, device, name=str(FOLDER / "evaluation"), entries=entries)


def fewer_steps(run: Path, config: AblationConfig) -> list[Entry]:
    """The teacher by DDIM, from all its steps down to one."""
    most = load_config(run / TEACHER)["generator"]["n_steps"]
    return [
        Entry(f"teacher-ddim-{steps}{end}", seed, run / TEACHER, selector, steps=steps)
        for steps in DDIM_STEPS
        if steps <= most
        for selector, end in (("iql", ""), ("none", "-unselected"))
        for seed in range(config.evaluate.teacher_seeds)
    ]


def fewer_candidates(run: Path, config: AblationConfig) -> list[Entry]:
    """The table's DNK with other numbers of candidates."""
    for seed in config.seeds:  # said before the variants' training, not after
        checkpoint_id(run / f"dnk-{seed}")
    return [
        Entry(f"candidates-{count}", seed, run / f"dnk-{seed}", "iql", candidates=count)
        for count in CANDIDATES
        for seed in config.seeds
    ]


def train_variant(
    run: Path, name: str, seed: int, student: KoopmanConfig, config: AblationConfig, device: str = "cpu"
) -> Path:
    """One variant of ``OTHER_STUDENTS`` or ``OTHER_PAIRS``, with its pairs if they are its own; returns its folder."""
    pairs = PAIRS
    if name in OTHER_PAIRS:
        pairs = str(FOLDER / f"pairs-{name}")
        pairs_stage(run, OTHER_PAIRS[name](config.pairs), device, name=pairs)
    changed = OTHER_STUDENTS.get(name, OTHER_STUDENTS["dnk"])(student)
    return train_method(
        run, METHODS["dnk"](), changed, replace(config.training, seed=seed), selector="iql", name=str(FOLDER / name),
        pairs=pairs,
    )  # fmt: skip
