"""A run's transitions and its source's as flat arrays in one .npz, for other libraries: the baselines of other papers.

``onestride import`` reads the file too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.checkpoint import CONFIG
from onestride.data.episode import Episode
from onestride.files import write_atomically
from onestride.methods.dynamics import DynamicsModel
from onestride.runs.contexts import load_contexts
from onestride.runs.run import CONTEXTS, SOURCE, episodes_of

#: DARA's log ratio of the two bodies for every step of the source; 0 for the target's own.
CORRECTIONS = "reward_corrections"
CHUNK = 65_536  # transitions scored at a time


def export_transitions(run: Path, path: Path) -> dict[str, int]:
    """Write every transition of a run's data, and of its source if it has one, to ``path``.

    The arrays have a row per step, the source's first: ``observations`` (M, O), ``actions`` (M, A), ``rewards`` (M,),
    ``next_observations`` (M, O), ``terminals`` (M,), ``timeouts`` (M,), and ``domain`` (M,), 1 for the run's own steps
    (the target) and 0 for the source's. Where ``<run>/contexts`` was trained with ``score="dara"`` there is also
    ``reward_corrections`` (M,), log p(s, a, s') / (1 - p(s, a, s')) - log p(s, a) / (1 - p(s, a)) within ±10, p that
    of the target. It is below 0 for a step of the source that the target's body would hardly have made, and is to be
    added to the rewards with a small weight (DARA, Liu et al. 2022).

    Args:
        run: holds the data.
        path: of the file, which ends in ``.npz``.

    Returns:
        How many steps there are of "source" and "target".

    Raises:
        FileNotFoundError: the run has no data.
        CheckpointError: its data or contexts were altered.
        ValueError: the file is called otherwise.
        OSError: the disk is full or the folder cannot be written.
    """
    if path.suffix != ".npz":
        raise ValueError(f"transitions are written as .npz, got {path}; name it {path.with_suffix('.npz')}")
    parts = {"target": _arrays(episodes_of(run))}
    if (run / SOURCE).exists():
        parts = {"source": _arrays(episodes_of(run, SOURCE)), **parts}
    for name, part in parts.items():
        part["domain"] = np.full(len(part["rewards"]), name == "target", np.int8)
    if "source" in parts and (run / CONTEXTS / CONFIG).is_file():
        model = load_contexts(run / CONTEXTS)
        if model.config.score == "dara":
            for part in parts.values():
                part[CORRECTIONS] = np.zeros(len(part["rewards"]), np.float32)
            parts["source"][CORRECTIONS] = _log_ratio(model, parts["source"])
    arrays: dict[str, Any] = {key: np.concatenate([part[key] for part in parts.values()]) for key in parts["target"]}
    write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
    return {name: len(part["rewards"]) for name, part in parts.items()}


def _arrays(episodes: Iterable[Episode]) -> dict[str, np.ndarray]:
    """Return episodes one after the other, a row per step."""
    made = list(episodes)
    last = [np.arange(len(e)) == len(e) - 1 for e in made]
    return {
        "observations": np.concatenate([e.observations[:-1] for e in made]),
        "actions": np.concatenate([e.actions for e in made]),
        "rewards": np.concatenate([e.rewards for e in made]),
        "next_observations": np.concatenate([e.observations[1:] for e in made]),
        "terminals": np.concatenate([end & e.terminated for end, e in zip(last, made, strict=True)]),
        "timeouts": np.concatenate([end & (not e.terminated) for end, e in zip(last, made, strict=True)]),
    }


@torch.inference_mode()
def _log_ratio(model: DynamicsModel, part: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the classifiers say of transitions (M,)."""
    names = ("observations", "actions", "next_observations")
    columns = [torch.from_numpy(part[name]).float().split(CHUNK) for name in names]
    said = [model.log_odds(model.inputs(*rows)) for rows in zip(*columns, strict=True)]
    return torch.cat(said).numpy()
