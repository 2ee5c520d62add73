"""What every denoiser promises, and what each one claims about itself."""

from __future__ import annotations

import pytest
import torch

from networks_at_work import awake
from onestride.networks.embeddings import TimeEmbedding, frequencies, sinusoidal
from onestride.networks.mlp import ResidualMLP
from onestride.networks.transformer import PlanTransformer
from onestride.networks.unet1d import FilmUNet, FilmUNetConfig, TemporalUNet, TemporalValue

H, D, C, N = 8, 5, 6, 20


def mlp(context_dim=C):
    return ResidualMLP(H, D, context_dim, n_steps=N, width=32, blocks=2)


def unet(context_dim=C):
    return TemporalUNet(H, D, context_dim, width=8, multipliers=(1, 2))


def film_unet(context_dim=C, **config):
    shape = {"down_dims": (8, 16), "n_groups": 4, "step_dim": 8, "past_rows": 1} | config
    return FilmUNet(H, D, context_dim, FilmUNetConfig(**shape))


def transformer(context_dim=C):
    return PlanTransformer(H, D, context_dim, width=16, blocks=2)


@pytest.fixture(params=[mlp, unet, film_unet, transformer])
def make(request):
    torch.manual_seed(0)
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("context_dim", [0, C])
def test_a_plan_comes_back_in_its_shape(make, batch, context_dim):
    context = torch.randn(batch, context_dim) if context_dim else None
    network = make(context_dim)
    for k in (torch.randint(0, N + 1, (batch,)), 3):
        assert network(torch.randn(batch, H, D), k, context).shape == (batch, H, D)


def test_one_k_and_one_context_serve_a_whole_batch(make):
    network, x, context = awake(make()), torch.randn(4, H, D), torch.randn(1, C)
    rows = network(x, torch.full((4,), 7), context.expand(4, C))
    torch.testing.assert_close(network(x, 7, context), rows)


def test_rows_do_not_mix(make):
    network, x, context = awake(make()), torch.randn(4, H, D), torch.randn(4, C)
    k = torch.tensor([1, 5, 5, 20])
    together = network(x, k, context)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], network(x[i : i + 1], int(k[i]), context[i : i + 1]))


def test_every_input_reaches_the_output(make):
    network, x, context = awake(make()), torch.randn(2, H, D), torch.randn(2, C)
    base = network(x, 3, context)
    assert (network(x, 4, context) - base).abs().max() > 1e-4
    assert (network(x, 3, context + 1) - base).abs().max() > 1e-4
    for h in range(H):
        moved = x.clone()
        moved[:, h] += 1
        assert (network(moved, 3, context) - base).abs().max() > 1e-4


def test_every_parameter_learns(make):
    network = awake(make())
    network(torch.randn(4, H, D), torch.tensor([0, 1, 9, N]), torch.randn(4, C)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.slow
def test_a_few_steps_of_training_fit_a_batch(make):
    network, x, context = make(), torch.randn(16, H, D), torch.randn(16, C)
    k, target = torch.randint(1, N + 1, (16,)), torch.randn(16, H, D)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = (network(x, k, context) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_wrong_call_says_what_was_expected(make):
    x = torch.randn(2, H, D)
    with pytest.raises(ValueError, match="context is None"):
        make()(x, 3)
    with pytest.raises(ValueError, match=r"context is \(3, 6\), expected \(2 or 1, 6\)"):
        make()(x, 3, torch.randn(3, C))
    with pytest.raises(ValueError, match="context_dim=0"):
        make(0)(x, 3, torch.randn(2, C))
    with pytest.raises(ValueError, match=r"expected \(B, 8, 5\)"):
        make(0)(x.transpose(1, 2), 3)
    with pytest.raises(ValueError, match="positive"):
        make(-1)


def test_state_holds_learned_numbers_only(make):
    network = make()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
    network.double()
    assert network(torch.randn(2, H, D).double(), 3, torch.randn(2, C).double()).dtype == torch.float64


def test_every_block_of_the_mlp_has_its_own_scale_and_shift():
    network = awake(mlp(0))
    network(torch.randn(4, H, D), 3).square().mean().backward()
    assert network.film.bias.grad.all()


def test_the_unet_uses_the_features_of_the_way_down():
    network = awake(unet(0))
    network(torch.randn(4, H, D), 3).square().mean().backward()
    concatenated = network.up[0].first.first[0].weight.grad  # (8, 16 from below + 16 across, 5)
    assert concatenated.shape[1] == 32
    assert concatenated.abs().sum((0, 2)).all()


def test_the_unets_last_channels_are_the_transition_dims():
    network = unet(0)
    with torch.no_grad():
        network.output[-1].weight.zero_()
        network.output[-1].bias.copy_(torch.arange(D))
    assert torch.equal(network(torch.randn(2, H, D), 3), torch.arange(D).expand(2, H, D).float())


def test_mlp_blocks_start_as_the_identity_and_blind_to_k():
    torch.manual_seed(0)
    network, x = mlp(0), torch.randn(3, H, D)
    straight = network.output(torch.nn.functional.layer_norm(network.input(x.flatten(1)), (32,))).view_as(x)
    torch.testing.assert_close(network(x, 1), straight)
    assert torch.equal(network(x, 1), network(x, N))


@pytest.mark.parametrize("k", [-1, N + 1])
def test_mlp_refuses_an_index_it_was_not_made_for(k):
    with pytest.raises(ValueError, match=r"expected 0 \.\.\. 20"):
        mlp(0)(torch.randn(1, H, D), k)


@pytest.mark.parametrize(("horizon", "multipliers", "millions"), [(4, (1, 4, 8), 3.69), (32, (1, 2, 4, 8), 3.96)])
def test_unet_has_the_published_number_of_parameters(horizon, multipliers, millions):
    network = TemporalUNet(horizon, 23, 0, multipliers=multipliers)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("multipliers", [(2,), (3, 1), (2, 4, 8)])
def test_unet_takes_any_multipliers(multipliers):
    x = torch.randn(2, H, D)
    assert TemporalUNet(H, D, 0, width=8, multipliers=multipliers)(x, 3).shape == x.shape


def test_unet_says_which_horizons_it_takes():
    with pytest.raises(ValueError, match=r"horizon 20 is not divisible by 8"):
        TemporalUNet(20, D, 0, multipliers=(1, 2, 4, 8))
    TemporalUNet(384, D, 0, width=8, multipliers=(1, 2, 4, 8))  # not a power of two, and fine
    with pytest.raises(ValueError, match="groups"):
        TemporalUNet(H, D, 0, width=12)


def test_sinusoids_are_those_of_the_paper_and_tell_the_steps_apart():
    omega = frequencies(8, max_period=1000.0)
    torch.testing.assert_close(omega, torch.tensor([1.0, 0.1, 0.01, 0.001]))
    features = sinusoidal(torch.arange(N + 1), omega)
    torch.testing.assert_close(features[3], torch.cat([(3 * omega).sin(), (3 * omega).cos()]))
    assert torch.pdist(features).min() > 0.05
    with pytest.raises(ValueError, match="even dim"):
        frequencies(7)


def test_time_embedding_takes_an_index_a_batch_or_a_fraction():
    embed = TimeEmbedding(8)
    assert embed(3).shape == (1, 8)
    torch.testing.assert_close(embed(torch.tensor([3, 5]))[:1], embed(3))
    torch.testing.assert_close(embed(torch.tensor([2.5])), embed(2.5))


# ---- one number per plan ----


def scalar_mlp(context_dim=C):
    return ResidualMLP(H, D, context_dim, n_steps=N, width=32, blocks=2, scalar=True)


def value(context_dim=C):
    return TemporalValue(H, D, context_dim, width=8, multipliers=(1, 2))


@pytest.fixture(params=[scalar_mlp, value])
def make_value(request):
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("context_dim", [0, C])
def test_a_plan_becomes_one_number(make_value, batch, context_dim):
    context = torch.randn(batch, context_dim) if context_dim else None
    for k in (torch.randint(0, N + 1, (batch,)), 3):
        assert make_value(context_dim)(torch.randn(batch, H, D), k, context).shape == (batch,)


def test_no_context_may_be_none_or_empty(make_value):
    network, x = awake(make_value(0)), torch.randn(4, H, D)
    assert torch.equal(network(x, 3), network(x, 3, torch.zeros(4, 0)))


def test_values_do_not_mix_and_one_k_and_context_serve_all(make_value):
    network, x, context = awake(make_value()), torch.randn(4, H, D), torch.randn(4, C)
    k = torch.tensor([1, 5, 5, 20])
    together = network(x, k, context)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], network(x[i : i + 1], int(k[i]), context[i : i + 1]))
    rows = network(x, torch.full((4,), 7), context[:1].expand(4, C))
    torch.testing.assert_close(network(x, 7, context[:1]), rows)


def test_every_input_and_every_parameter_has_a_say_in_a_value(make_value):
    network, x, context = awake(make_value()), torch.randn(2, H, D, requires_grad=True), torch.randn(2, C)
    base = network(x, 3, context)
    assert (network(x, 4, context) - base).abs().min() > 1e-6
    assert (network(x, 3, context + 1) - base).abs().min() > 1e-4
    network(x, torch.tensor([2, 9]), context).square().sum().backward()
    assert x.grad.all()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_scalar_mlp_is_the_denoiser_with_another_last_layer():
    torch.manual_seed(0)
    a, b = mlp(), scalar_mlp()
    b.load_state_dict({**a.state_dict(), "output.weight": torch.zeros(1, 32), "output.bias": torch.ones(1)})
    assert torch.equal(b(torch.randn(3, H, D), 3, torch.randn(3, C)), torch.ones(3))
    assert b.output.weight.shape == (1, 32)


def test_a_value_call_that_is_wrong_says_what_was_expected(make_value):
    x = torch.randn(2, H, D)
    with pytest.raises(ValueError, match=r"expected \(B, 8, 5\)"):
        make_value(0)(x.transpose(1, 2), 3)
    with pytest.raises(ValueError, match="context is None, expected"):
        make_value()(x, 3)
    with pytest.raises(ValueError, match=r"context (is )?\(2, 6\)"):
        make_value(0)(x, 3, torch.randn(2, C))


def test_the_way_down_says_which_horizons_it_takes():
    with pytest.raises(ValueError, match=r"horizon 20 must be a multiple of 8 = 2\^\(levels-1\)"):
        TemporalValue(20, D, 0, multipliers=(1, 2, 4, 8))
    with pytest.raises(ValueError, match=r"width 12 of 8"):
        TemporalValue(H, D, 0, width=12)
    TemporalValue(4, D, 0, multipliers=(1, 4, 8))  # the cheetah's


# ---- Diffusion Policy's ----


def test_rows_before_now_come_last_and_the_network_sees_them_first():
    torch.manual_seed(0)
    network, x, context = awake(film_unet(past_rows=3)), torch.randn(2, H, D), torch.randn(2, C)
    own = awake(film_unet(past_rows=0))
    own.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(x, 3, context).roll(3, 1), own(x.roll(3, 1), 3, context), atol=0, rtol=0)


def test_a_context_may_be_encoded_before_the_blocks_are_given_it():
    torch.manual_seed(0)
    network, x, context = awake(film_unet(context_width=5)), torch.randn(2, H, D), torch.randn(2, C)
    plain = film_unet(context_dim=5)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("context.")})
    torch.testing.assert_close(network(x, 3, context), plain(x, 3, network.context(context)), atol=0, rtol=0)
    assert network(x, 3, context[:1]).shape == x.shape  # one for the whole batch


def test_film_is_scale_times_features_plus_shift():
    """By the block's own layers: the scale is not 1 + scale, and the shift is the second half."""
    torch.manual_seed(0)
    block, h, e = film_unet().down[0].first, torch.randn(2, D, H), torch.randn(2, 8 + C)
    scale, shift = block.time[1](torch.nn.functional.mish(e))[..., None].split(8, dim=1)
    torch.testing.assert_close(block(h, e), block.second(scale * block.first(h) + shift) + block.skip(h))


@pytest.mark.parametrize(
    ("config", "message"),
    [({"down_dims": (12, 16)}, "down_dims"), ({"kernel_size": 4}, "odd"), ({"past_rows": H}, "past_rows"),
     ({"context_width": -1}, "context_width is -1"), ({"context_dim": 0, "context_width": 4}, "of 0 numbers"),
     ({"down_dims": ()}, "positive"), ({"down_dims": (8, 8, 8, 8, 8)}, "divisible by 16")],
)  # fmt: skip
def test_impossible_shapes_of_the_film_unet_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        film_unet(**config)
