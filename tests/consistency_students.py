"""Consistency students and their teachers, small, and numbers for them."""

from __future__ import annotations

from dataclasses import replace

import torch

from onestride.methods.consistency import (
    ConsistencyConfig,
    ConsistencyStudent,
)
from onestride.methods.edm import EDMConfig, EDMPlanner
from plan_specs import spec_of

O, A, C = 2, 3, 4  # noqa: E741
D = O + A
SMALL = ConsistencyConfig(width=16, blocks=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def mask(horizon):
    fixed = torch.zeros(horizon, D, dtype=torch.bool)
    fixed[0, :O] = True
    return fixed


def moved(module):
    """Away from where it starts, as after some training."""
    g = seeded(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return module


def make_teacher(horizon=4, **settings):
    torch.manual_seed(0)
    return moved(EDMPlanner(EDMConfig(**{"width": 16, "blocks": 1} | settings), spec_of(mask(horizon), C, O)))


def make(method="ct", horizon=4, **settings):
    torch.manual_seed(0)
    student = ConsistencyStudent(replace(SMALL, method=method, **settings), spec_of(mask(horizon), C, O))
    if method == "cd":
        student.distil(make_teacher(horizon))
        return student
    return moved(student)


def make_batch(rows=32, horizon=4):
    return {"plans": normal(rows, horizon, D, seed=2), "context": normal(rows, C, seed=3)}
