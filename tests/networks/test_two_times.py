"""Networks that are told a second noise index, and derivatives along it."""

from __future__ import annotations

import pytest
import torch

from networks_at_work import awake
from onestride.networks.derivatives import directional
from onestride.networks.plan_network import NetworkConfig, plan_network

H, D, C, N = 8, 5, 6, 20


@pytest.fixture(params=["mlp", "unet", "transformer"])
def two_times(request):
    def made(two=True):
        torch.manual_seed(0)
        return plan_network(
            NetworkConfig(network=request.param, width=32, blocks=2, unet_width=8, unet_multipliers=(1, 2)),
            H, D, C, n_steps=N, two_times=two,
        )  # fmt: skip

    return made


def test_a_second_time_says_nothing_at_first_and_the_rest_is_the_network_without_it(two_times):
    plain, told = two_times(False), two_times()
    own = told.state_dict()
    shared = {name: value for name, value in own.items() if not name.startswith("until")}
    assert shared.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in shared.items())
    awake(plain)
    told.load_state_dict(plain.state_dict(), strict=False)
    x, k, context = torch.randn(3, H, D), torch.tensor([1.0, 4.5, 20.0]), torch.randn(3, C)
    torch.testing.assert_close(told(x, k, context, k / 2), plain(x, k, context), rtol=0, atol=0)
    awake(told)
    assert not torch.equal(told(x, k, context, k / 2), told(x, k, context, k / 3))


def test_a_second_time_that_is_missing_or_too_many_is_refused(two_times):
    x, k, context = torch.randn(3, H, D), torch.ones(3), torch.randn(3, C)
    with pytest.raises(ValueError, match="until is None; this network was made with two_times=True"):
        two_times()(x, k, context)
    with pytest.raises(ValueError, match="two_times=False"):
        two_times(False)(x, 1, context, 1)


def test_derivatives_forward_are_those_of_a_finite_difference(two_times):
    network = awake(two_times().double())
    g = torch.Generator().manual_seed(0)
    x, dx = torch.randn(2, 3, H, D, generator=g).double()
    context, (k, until) = torch.randn(3, C, generator=g).double(), torch.rand(2, 3, generator=g).double()

    def said(x, k):
        return network(x, k, context, until)

    with torch.no_grad():
        _, found = directional(said, (x, k), (dx, torch.ones_like(k)))
        wanted = (said(x + 1e-6 * dx, k + 1e-6) - said(x - 1e-6 * dx, k - 1e-6)) / 2e-6
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


def test_a_network_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"config\.network is 'cnn'; there are mlp, unet"):
        NetworkConfig(network="cnn")
