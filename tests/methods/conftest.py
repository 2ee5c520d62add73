"""Koopman students that nobody trained, and pairs for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from koopman_students import SMALL, C, D, H, O, normal, seeded
from onestride.methods.koopman import (
    KoopmanStudent,
)
from plan_specs import spec_of


@pytest.fixture
def fixed():
    mask = torch.zeros(H, D, dtype=torch.bool)
    mask[0, :O] = True
    return mask


@pytest.fixture
def make(fixed):
    def student(operator="dnk", **settings):
        torch.manual_seed(0)
        return KoopmanStudent(replace(SMALL, operator=operator, **settings), spec_of(fixed, C, O))

    return student


@pytest.fixture
def batch(fixed):
    prior, target = normal(32, H, D, seed=1), normal(32, H, D, seed=2)
    target = torch.where(fixed, prior, target)
    weight = 1 + torch.rand(32, generator=seeded(4))
    return {"prior": prior, "target": target, "context": normal(32, C, seed=3), "weight": weight}
