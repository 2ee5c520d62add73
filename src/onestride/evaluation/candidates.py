"""Candidates before any selector: how they spread, and how far they are from the teacher's from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from onestride.evaluation.entries import Entry
from onestride.evaluation.records import CANDIDATES, SHOWN, Record, Store
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.tensors import save_tensors

Measure = Callable[[Entry], list[Record]]
Show = Callable[[Sequence[Entry]], tuple[dict[str, torch.Tensor], dict[str, str]]]


def measure_candidates(
    folder: Path, entries: Sequence[Entry], made: Mapping[tuple[str, int], Record], measure: Measure, show: Show
) -> list[Record]:
    """Return records of every generator's candidates; those that are in the folder are not made again.

    Args:
        made: which checkpoint and selector make every row and seed.
        measure: what one generator's candidates are like.
        show: candidates of every generator's first seed, for figures.
    """
    reference = "/".join(map(str, made[entries[0].row, entries[0].seed].values()))
    found, makers = {}, {}
    for entry in entries:
        if entry.variant.selector in ("none", "task"):  # each generator once, whoever ranks
            key = entry.variant.generator, entry.seed
            found[key], makers[key] = entry, {**made.get(key, made[entry.row, entry.seed]), "reference": reference}
    store = Store(folder / CANDIDATES, makers)
    done = {key[:2] for key in store.done}
    with track("candidates", len(found)) as bar:
        for number, (key, entry) in enumerate(found.items(), 1):
            if key not in done:
                store.add(key[0], key[1], measure(entry))
            bar.update(number)
    if not (folder / SHOWN).exists():
        tensors, header = show(list({e.variant.generator: e for e in reversed(found.values())}.values()))
        save_tensors(folder / SHOWN, tensors, header)
    return store.records


@torch.inference_mode()
def candidates_at(policy: Policy, rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Return candidates (B, N, H, D) at observations (B, O), normalised, without a sampler's own noise."""
    policy.reset(seed)
    start, prior = policy._encode(rows)
    kwargs = {"solver": "ddim"} if policy.config["kind"] == "teacher" else {}
    flat = policy.generator.sample(prior.flatten(0, 1), policy.normalizer.context(start.context), **kwargs)
    return flat.view_as(prior)
