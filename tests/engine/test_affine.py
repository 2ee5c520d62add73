"""Each rewrite on its own: what the layers compute before and after."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onestride.engine.affine import (
    affine,
    compose,
    dense,
    fold_gain,
    fold_input_norm,
    fold_offset,
    fold_output_norm,
    hcat,
    outputs,
    spectral_matrix,
    split_columns,
    vcat,
)
from onestride.methods.koopman import StaticFactorizedLayer


@pytest.fixture
def x():
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Linear(5, 7).double(), nn.Linear(7, 3).double()


def run(layer, x):
    return x @ layer.weight.T + layer.bias


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_map_is_its_layer_with_and_without_a_bias(x, layers):
    close(run(affine(layers[0]), x), layers[0](x))
    without = nn.Linear(5, 7, bias=False).double()
    close(run(affine(without), x), without(x))
    close(dense(affine(without))(x), without(x))
    close(dense(affine(layers[0]))(x), layers[0](x))


@torch.no_grad()
def test_two_in_a_row_and_two_of_one_input(x, layers):
    first, second = layers
    close(run(compose(affine(second), affine(first)), x), second(first(x)))
    other = nn.Linear(5, 2).double()
    close(run(vcat(affine(first), affine(other)), x), torch.cat((first(x), other(x)), 1))


@torch.no_grad()
def test_inputs_and_outputs_apart(x, layers):
    whole = affine(layers[0])
    left, right = split_columns(whole, 2)
    assert left.weight.shape[1] == 2
    assert not right.bias.any()
    close(run(left, x[:, :2]) + run(right, x[:, 2:]), run(whole, x))
    again = hcat(left, right)
    close(again.weight, whole.weight)
    close(again.bias, whole.bias)
    close(run(outputs(whole, 2, 4), x), layers[0](x)[:, 2:4])


@torch.no_grad()
def test_units_are_part_of_the_layer(x, layers):
    first, second = layers
    mean, std = torch.linspace(-1, 1, 5).double(), torch.linspace(0.1, 3, 5).double()
    close(run(fold_input_norm(affine(first), mean, std), x), first((x - mean) / std))
    close(run(fold_output_norm(affine(second), mean[:3], std[:3]), first(x)), second(first(x)) * std[:3] + mean[:3])
    close(run(fold_offset(affine(first), mean), x - mean), first(x))
    close(run(fold_gain(affine(first), std, mean), x), first(x * std + mean))


@torch.no_grad()
def test_kdm_fs_complex_spectrum_is_one_real_matrix(x):
    torch.manual_seed(0)
    layer = StaticFactorizedLayer(5).double()
    for p in layer.parameters():
        p.add_(0.1 * torch.randn_like(p))
    close(run(spectral_matrix(layer), x), layer(x)[0])
