"""Rewrites of linear layers that change no result: what a trained network computes, in fewer products.

Every function is exact in real arithmetic and works in float64, so that what is rounded to float32 in the end is
rounded once. A layer is ``y = weight x + bias`` with weight (out, in) and bias (out,), as in ``nn.Linear``.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from onestride.methods.koopman import StaticFactorizedLayer
from onestride.networks.normalizer import varied

M = TypeVar("M", bound=nn.Module)


class Affine(NamedTuple):
    """``y = weight x + bias``, float64."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


def exact(module: M) -> M:
    """A copy to work on, in float64 on the CPU."""
    return copy.deepcopy(module).cpu().double().requires_grad_(False)


def affine(layer: nn.Module) -> Affine:
    """The map of a trained ``nn.Linear``."""
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.detach().double().cpu()
    return Affine(weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu())


def dense(layer: Affine) -> nn.Linear:
    """A layer again: the last thing that is done to a map."""
    made = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], dtype=layer.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(layer.weight)
        made.bias.copy_(layer.bias)
    return made


def compose(second: Affine, first: Affine) -> Affine:
    """Two maps in a row are one."""
    return Affine(second.weight @ first.weight, second.weight @ first.bias + second.bias)


def vcat(*maps: Affine) -> Affine:
    """Maps of the same input are one, with their outputs side by side."""
    return Affine(torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps]))


def hcat(left: Affine, right: Affine) -> Affine:
    """The sum of two maps of different inputs is one of both inputs side by side."""
    return Affine(torch.cat((left.weight, right.weight), 1), left.bias + right.bias)


def split_columns(layer: Affine, at: int) -> tuple[Affine, Affine]:
    """A map as the sum of a map of its first ``at`` inputs, which keeps the bias, and one of the others."""
    return Affine(layer.weight[:, :at], layer.bias), Affine(layer.weight[:, at:], torch.zeros_like(layer.bias))


def by_entries(layer: Affine, known: Tensor, free: Tensor) -> tuple[Affine, Affine]:
    """A map as the sum of a map of its known inputs (K,), which keeps the bias, and one of the free ones."""
    return Affine(layer.weight[:, known], layer.bias), Affine(layer.weight[:, free], torch.zeros_like(layer.bias))


def outputs(layer: Affine, first: int, last: int | None = None) -> Affine:
    """Only the outputs first ... last - 1."""
    return Affine(layer.weight[first:last], layer.bias[first:last])


def outputs_of(layer: Affine, which: Tensor) -> Affine:
    """Only these outputs (R,)."""
    return Affine(layer.weight[which], layer.bias[which])


def fold_input_norm(layer: Affine, mean: Tensor, std: Tensor) -> Affine:
    """A map of ``(x - mean) / std`` as a map of x."""
    weight = layer.weight / std.double()
    return Affine(weight, layer.bias - weight @ mean.double())


def of_varied(layer: Affine, std: Tensor) -> Affine:
    """A map of normalised inputs, of which columns that hardly varied in training are 0."""
    return Affine(layer.weight * varied(std.double()), layer.bias)


def fold_offset(layer: Affine, offset: Tensor) -> Affine:
    """A map of x as a map of ``x - offset``.

    Where a column hardly changes its scale is large, and in float32 its mean has to go before, not after.
    """
    return Affine(layer.weight, layer.bias + layer.weight @ offset.double())


def fold_output_norm(layer: Affine, mean: Tensor, std: Tensor) -> Affine:
    """A map to y as a map to ``y std + mean``."""
    return Affine(layer.weight * std.double()[:, None], layer.bias * std.double() + mean.double())


def fold_gain(layer: Affine, scale: Tensor, shift: Tensor) -> Affine:
    """A map of ``x scale + shift`` as a map of x: the gain of a normalisation that nothing bends before the layer."""
    return Affine(layer.weight * scale.double(), layer.bias + layer.weight @ shift.double())


@torch.no_grad()
def spectral_matrix(layer: StaticFactorizedLayer) -> Affine:
    """KDM-F's ``Re(P_inv diag(lambda) P)`` as the real matrix it is, rows of P at unit length."""
    p = layer.P.detach().double().cpu().view(2, -1, layer.P.shape[1])
    p = p / p.square().sum((0, 2), keepdim=True).sqrt()
    inverse = layer.P_inv.detach().double().cpu()
    eigenvalues = torch.polar(torch.exp(-torch.exp(layer.nu.double().cpu())), torch.exp(layer.theta.double().cpu()))
    whole = torch.complex(inverse[0], inverse[1]) @ (eigenvalues[:, None] * torch.complex(p[0], p[1]))
    return Affine(whole.real.contiguous(), whole.real.new_zeros(len(whole)))
