"""The exact teacher of a Gaussian, and how pairs are read that it makes."""

from __future__ import annotations

import torch
from torch import nn

from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.runs.pairs import (
    BLOCK,
    COLUMNS,
    open_shard,
)

COUNT = 4 * BLOCK + 300  # five blocks, the last one not full
IDENTITY = {"teacher": "abc", "data": {"seed": 0, "episodes": 3}}
MEAN, VARIANCE = 0.3, 0.5


class Exact(nn.Module):
    """E[x_0 | x_k] of plans whose entries are independent N(MEAN, VARIANCE)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, k, context):
        a, s = self.schedule.alpha[k], self.schedule.sigma[k]
        return MEAN + a * VARIANCE * (x - a * MEAN) / (a**2 * VARIANCE + s**2)


def columns(folder):
    parts = [open_shard(p) for p in sorted(folder.glob("*.safetensors"))]
    return {key: torch.cat([part[key] for part in parts]) for key in COLUMNS}


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def dies_after(calls, monkeypatch):
    """The teacher stops the program when it is asked once more than ``calls`` times."""
    sample, count = DiffusionPlanner.sample, 0

    def dies(self, *args, **kwargs):
        nonlocal count
        if count == calls:
            raise KeyboardInterrupt
        count += 1
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(DiffusionPlanner, "sample", dies)
