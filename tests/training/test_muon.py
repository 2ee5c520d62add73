"""Muon in float32 on the host: Newton-Schulz written out in float64 beside it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onestride.training import muon


def orthogonal(matrix):
    """Five quintic steps with the coefficients of Jordan et al. (2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def moved(shape):
    """How one step from rest moves a matrix, by its gradient; and both in float64."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=generator))
    weight.grad = torch.randn(shape, generator=generator)
    before = weight.detach().clone()
    kept = weight.grad.clone()
    muon.Muon([weight], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    assert torch.equal(weight.grad, kept)
    return (weight.detach() - before).double(), kept.double()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize("units", [False, True], ids=["no units", "units"])
def test_a_cpu_without_units_for_bfloat16_works_in_float32(monkeypatch, shape, units):
    monkeypatch.setattr(muon, "cpu_multiplies_bfloat16", lambda: units)
    got, gradient = moved(shape)
    wide = gradient if shape[0] <= shape[1] else gradient.T
    wanted = -0.2 * max(shape) ** 0.5 * orthogonal(wide)
    error = (got - (wanted if shape[0] <= shape[1] else wanted.T)).abs().max()
    assert (error > 1e-3) if units else (error < 1e-5)  # torch's own rounds to bfloat16


def test_precision_follows_the_processor(monkeypatch):
    for able, expected in (({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert muon.cpu_multiplies_bfloat16() is expected
