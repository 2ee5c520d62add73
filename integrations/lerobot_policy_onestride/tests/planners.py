"""Untrained planners of PushT, exported: what they do is of no use, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from onestride.engine.export import export
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.tasks import TASKS

SETTINGS = {"width": 32, "blocks": 1}
VISION = {"keypoints": 4, "features": 8, "crop": 1.0}
PREFIX = 3
DRAWS = 8


def export_planner(out: Path, task: str = "pusht", method: str = "meanflow", prefix: int = 0) -> Path:
    """Write the exported folder ``out`` and return it."""
    record = replace(TASKS[task](), prefix=prefix)
    torch.manual_seed(0)
    generator = make_generator(record, method, SETTINGS, vision=VISION)
    half, context = torch.full((2,), 256.0), torch.full((record.context_dim,), 256.0)
    normalizer = Normalizer(half, half, context, context)
    policy = Policy(record, generator, normalizer, selector=unselected, candidates=1)
    export(policy, out, draws=DRAWS, seed=0, checkpoint=None)
    return out
