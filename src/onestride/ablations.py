"""What the paper claims but does not show: one piece of DNK taken away at a time, on pairs of one teacher.

Everything goes into ``<run>/ablations``, beside the table's own checkpoints, which it needs: teacher and selectors.
Every variant has the same budget, so its reference (``dnk``) is trained anew with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onestride.evaluation.benchmark import benchmark
from onestride.evaluation.lineup import Entry
from onestride.pipeline import PAIRS, TEACHER, distill_stage, pairs_stage
from onestride.presets import ReturnsConfig
from onestride.students.koopman import KoopmanConfig
from onestride.students.pairs import PairsConfig
from onestride.training import TrainConfig

CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DDIM_STEPS = (1, 2, 5, 10, 20)
#: Pairs that differ from the table's.
OTHER_PAIRS: dict[str, Callable[[PairsConfig], PairsConfig]] = {
    "single-lambda": lambda pairs: replace(pairs, temperatures=(0.5,), probabilities=(1.0,)),
    "ancestral": lambda pairs: replace(pairs, solver="ddpm"),
}
#: Students that differ from DNK.
OTHER_STUDENTS: dict[str, Callable[[KoopmanConfig], KoopmanConfig]] = {
    "dnk": lambda student: student,
    "kdm-f": lambda student: replace(student, operator="kdm-f"),  # without state-dependent gains
    "mlp": lambda student: replace(student, operator="mlp"),
    "no-spectral": lambda student: replace(student, spectral=0.0),
    "no-inverse": lambda student: replace(student, inverse=0.0),
    "no-weights": lambda student: replace(student, weighted=False),
    "no-action": lambda student: replace(student, action=0.0),
}


@dataclass(frozen=True)
class AblationConfig:
    """The variants' common budget."""

    training: TrainConfig
    pairs: PairsConfig
    evaluate: ReturnsConfig
    seeds: tuple[int, ...] = (0, 1, 2)


def ablate(run: Path, student: KoopmanConfig, config: AblationConfig, command: str, device: str = "cpu") -> Path:
    """Train and evaluate every variant; writes ``run/ablations/comparison.json``.

    Raises:
        CheckpointError: the run has no teacher, selectors or pairs yet.
    """
    folder = Path("ablations")
    entries: list[Entry] = []
    for name, change in OTHER_STUDENTS.items():
        entries += _train(run, folder / name, change(student), config, PAIRS)
    for name, other in OTHER_PAIRS.items():
        pairs_stage(run, other(config.pairs), device, name=str(folder / f"pairs-{name}"))
        entries += _train(run, folder / name, student, config, str(folder / f"pairs-{name}"))
    for count in CANDIDATES:
        entries += [
            Entry(f"dnk-{count}-candidates", seed, run / folder / f"dnk-{seed}", "iql", candidates=count)
            for seed in config.seeds
        ]
    for steps in DDIM_STEPS:
        entries += [
            Entry(f"teacher-ddim-{steps}", seed, run / TEACHER, "iql", steps=steps)
            for seed in range(config.evaluate.teacher_seeds)
        ]
    return benchmark(run, config.evaluate, command, device, name=str(folder / "evaluation"), entries=entries)


def _train(run: Path, name: Path, student: KoopmanConfig, config: AblationConfig, pairs: str) -> list[Entry]:
    """One variant, every seed; evaluated with the critic and without a selector."""
    entries = []
    for seed in config.seeds:
        trained = distill_stage(run, student, replace(config.training, seed=seed), name=str(name), pairs=pairs)
        entries += [Entry(name.name, seed, trained, "iql"), Entry(f"{name.name}-unselected", seed, trained, "none")]
    return entries
