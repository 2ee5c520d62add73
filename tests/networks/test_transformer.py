"""The transformer over rows: what it looks at, its widths, and what it is used for."""

from __future__ import annotations

import math

import pytest
import torch

from onestride.methods.keyed_drift import KeyedDriftConfig
from onestride.methods.meanflow import MEANFLOW
from onestride.networks.derivatives import directional
from onestride.networks.plan_network import NetworkConfig, plan_network
from onestride.networks.transformer import PlanTransformer
from onestride.plans.spec import PlanSpec

H, D, C = 8, 5, 3


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = PlanTransformer(H, D, C, width=16, blocks=2)
    with torch.no_grad():
        for p in made.parameters():  # its gates start closed
            p.add_(0.2 * torch.randn(p.shape))
    return made


def test_attention_is_the_softmax_of_products_head_by_head():
    torch.manual_seed(0)
    block, h = PlanTransformer(H, D, C, width=128, blocks=1).blocks[0], torch.randn(2, H, 128)
    with torch.no_grad():
        block.modulation.bias.view(6, 128)[2] = 1  # the gate of what attention says, and of nothing else
    q, k, v = block.qkv(torch.nn.functional.layer_norm(h, (128,))).chunk(3, -1)
    heads = [
        ((q[..., s] @ k[..., s].transpose(1, 2)) / math.sqrt(64)).softmax(-1) @ v[..., s]
        for s in (slice(0, 64), slice(64, 128))
    ]
    torch.testing.assert_close(block(h, torch.zeros(1, 1, 128)), h + block.gathered(torch.cat(heads, -1)))


def test_rows_are_told_apart_by_their_places_alone(network):
    x, order = torch.randn(2, H, D), torch.randperm(H)
    context = torch.randn(2, C)
    assert not torch.allclose(network(x[:, order], 3, context), network(x, 3, context)[:, order], atol=1e-3)
    with torch.no_grad():
        network.place.zero_()
    torch.testing.assert_close(network(x[:, order], 3, context), network(x, 3, context)[:, order])


def test_it_begins_without_looking_at_anything():
    network, x = PlanTransformer(H, D, 0, width=16, blocks=2), torch.randn(2, H, D)
    straight = network.output(torch.nn.functional.layer_norm(network.input(x) + network.place, (16,)))
    torch.testing.assert_close(network(x, 3), straight)


@pytest.mark.parametrize("width", [96, 15, 2, 65])
def test_a_width_is_whole_heads(width):
    with pytest.raises(ValueError, match=f"width is {width}; a transformer's is a multiple of 64, or even and smaller"):
        PlanTransformer(H, D, C, width=width)


def test_a_derivative_goes_through_it(network):
    """MeanFlow needs one, forward."""
    x, along, context = torch.randn(2, H, D), torch.randn(2, H, D), torch.randn(2, C)
    _, slope = directional(lambda x: network(x, 3, context), (x,), (along,))
    network, x, along, context = network.double(), x.double(), along.double(), context.double()
    about = (network(x + 1e-6 * along, 3, context) - network(x - 1e-6 * along, 3, context)) / 2e-6
    torch.testing.assert_close(slope.double(), about, atol=1e-3, rtol=1e-3)


def test_methods_take_it_by_name():
    size = NetworkConfig(network="transformer", width=16, blocks=1)
    made = plan_network(size, H, D, C, n_steps=4, two_times=True)
    assert isinstance(made, PlanTransformer)
    assert made(torch.randn(2, H, D), 2, torch.randn(2, C), 1).shape == (2, H, D)
    spec = PlanSpec(horizon=H, state_dim=2, action_dim=3, context_dim=C)
    for method in (MEANFLOW.with_config(network="transformer", width=16, blocks=1),):
        planner = method.build(method.config, spec)
        batch = {"plans": torch.randn(4, H, D), "context": torch.randn(4, C)}
        planner.training_step(batch, torch.Generator())["loss"].backward()
        assert planner.network.blocks[0].modulation.weight.grad.any()
    with pytest.raises(ValueError, match="there are mlp, unet, transformer"):
        KeyedDriftConfig(network="lstm")  # type: ignore[arg-type]
