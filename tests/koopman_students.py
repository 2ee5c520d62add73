"""Sizes of Koopman students that nobody trained, and numbers for them."""

from __future__ import annotations

import torch

from onestride.methods.koopman import (
    KoopmanConfig,
)

H, O, A, C, L = 4, 3, 2, 5, 6  # noqa: E741
D = O + A
SMALL = KoopmanConfig(latent_dim=L, hidden=16, gain_hidden=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def moved(module, seed=1, by=0.3):
    """Away from where it starts, as after some training."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def double(batch):
    return {k: v.double() for k, v in batch.items()}
