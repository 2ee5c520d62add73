"""The small task's pairs, by a teacher that is exact."""

from __future__ import annotations

import pytest
import torch

from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.runs.pairs import (
    PairsConfig,
    make_pairs,
)
from pairs_of_a_point import COUNT, IDENTITY, Exact


@pytest.fixture
def normalizer():
    return Normalizer(
        torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([2.0, 0.5, 3.0, 1.0]), torch.ones(2), torch.full((2,), 4.0)
    )


@pytest.fixture
def teacher(point, normalizer):
    """The small task's teacher, with the exact denoiser of a Gaussian for a network."""
    planner = DiffusionPlanner(TeacherConfig(width=8, blocks=1, n_steps=20), point.plans)
    planner.network = Exact(planner.schedule)
    return Policy(point, planner, normalizer)


@pytest.fixture
def observations():
    return torch.randn(50, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(teacher, observations):
    def made(folder, *, identity=IDENTITY, **settings):
        make_pairs(teacher, observations, PairsConfig(**{"count": COUNT, "shards": 3} | settings), folder, identity)
        return folder

    return made
