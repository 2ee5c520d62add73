"""MIP: what its two calls are given and taught, and that two steps of regression mend what one cannot."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from onestride.methods import METHODS
from onestride.methods.mip import FIRST, SECOND, MIPConfig, MIPPolicy
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from plan_specs import spec_of

O, A, C = 2, 3, 4  # noqa: E741
D = O + A
SMALL = MIPConfig(width=16, blocks=1, unet_width=8, unet_multipliers=(1, 2))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def known(rows, observed=True):
    mask = torch.zeros(rows, D, dtype=torch.bool)
    mask[0, :O] = observed
    return mask


def make(horizon=4, observed=True, **settings):
    torch.manual_seed(0)
    policy = MIPPolicy(replace(SMALL, **settings), spec_of(known(horizon, observed), C, O))
    with torch.no_grad():  # past the zeros that some layers start with
        for i, p in enumerate(policy.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=i))
    return policy


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("observed", [True, False])
def test_two_calls_the_second_with_a_share_of_the_first(network, observed):
    policy, calls = make(network=network, observed=observed), []
    policy.network.register_forward_hook(lambda _, args, out: calls.append((*args[:2], out)))
    prior, fixed = normal(6, 4, D), policy.fixed
    prior[0, 0, :O] = -0.0
    plans = policy.sample(prior, normal(1, C))
    assert torch.equal(plans[:, fixed].view(torch.int32), prior[:, fixed].view(torch.int32))
    (x, k, first), (y, then, second) = calls
    assert (k, then, policy.nfe) == (FIRST, SECOND, 2)
    assert torch.equal(x, torch.where(fixed, prior, 0.0))
    assert torch.equal(y, torch.where(fixed, prior, 0.9 * first))
    assert torch.equal(plans, torch.where(fixed, prior, second))
    other = torch.where(fixed, prior, normal(6, 4, D, seed=9))
    assert torch.equal(policy.sample(other, normal(1, C)), plans)  # noise changes nothing


def test_the_loss_is_the_papers():
    policy, seen = make(second_weight=3.0, first_action_weight=2.0), []
    policy.network.register_forward_pre_hook(lambda _, args: seen.append(args[:2]))
    plans, context = normal(32, 4, D, seed=2), normal(32, C, seed=3)
    got = policy.training_step({"plans": plans, "context": context}, torch.Generator().manual_seed(5))
    noise = normal(32, 4, D, seed=5)
    between = torch.where(policy.fixed, plans, 0.9 * plans + 0.1 * noise)
    torch.testing.assert_close(seen[1][0], between, rtol=1e-6, atol=1e-6)
    weight = (~policy.fixed).float()
    weight[0, O:] = 2.0
    wanted = [
        (weight * (policy.network(x, k, context) - plans).square()).sum() / (32 * weight.sum())
        for x, k in ((torch.where(policy.fixed, plans, 0.0), 0), (between, 1))
    ]
    torch.testing.assert_close((got["first"], got["second"]), tuple(wanted), rtol=1e-5, atol=0)
    torch.testing.assert_close(got["loss"], wanted[0] + 3.0 * wanted[1], rtol=1e-5, atol=0)


class Mean(torch.nn.Module):
    """What both calls say once they are trained, where data are o + s e: the mean of the data, given what is seen."""

    def __init__(self, s, t):
        super().__init__()
        self.s, self.t = s, t

    def forward(self, x, call, context):
        mean = context[:, :1, None].expand_as(x)
        if call == FIRST:
            return mean
        gain = self.t * self.s**2 / (self.t**2 * self.s**2 + (1 - self.t) ** 2)
        return mean + gain * (x - self.t * mean)


def test_on_a_gaussian_both_calls_say_the_mean_and_no_other_losses_are_lower():
    spec = spec_of(torch.zeros(1, 1, dtype=torch.bool), 1)
    policy, s, rows = MIPPolicy(SMALL, spec).double(), 0.5, 400_000
    policy.network = Mean(s, 0.9)
    context = normal(rows, 1, seed=1).double()
    plans = context[:, :, None] + s * normal(rows, 1, 1, seed=2).double()
    losses = policy.training_step({"plans": plans, "context": context}, torch.Generator().manual_seed(3))
    assert losses["first"].item() == pytest.approx(s**2, rel=0.01)
    assert losses["second"].item() == pytest.approx(1 / (1 / s**2 + (0.9 / 0.1) ** 2), rel=0.01)
    torch.testing.assert_close(policy.sample(plans, context), context[:, :, None])
    assert (policy.sample(plans, context) - plans).square().mean().item() == pytest.approx(s**2, rel=0.01)


@pytest.mark.slow
def test_two_ways_become_one_through_the_middle(tmp_path):
    """It fits no distribution: of data at -1 and 1 it says one answer, and the same one whatever the noise."""
    torch.manual_seed(0)
    policy = MIPPolicy(MIPConfig(width=32, blocks=1), spec_of(torch.zeros(1, 1, dtype=torch.bool), 1))
    side = torch.where(normal(2048, 1, 1) > 0, 1.0, -1.0)
    training = TrainConfig(300, 256, 3e-3, warmup=20, ema_decay=0.95, precision="32-true", accelerator="cpu")
    data = {"plans": side + 0.05 * normal(2048, 1, 1, seed=1), "context": torch.ones(2048, 1)}
    ema, _ = train(policy, data, training, tmp_path, title="mip", identity={})
    assert ema.sample(normal(500, 1, 1, seed=4), torch.ones(1, 1)).std() < 1e-6
    with torch.no_grad():
        first = ema.network(torch.zeros(1, 1, 1), FIRST, torch.ones(1, 1)).item()
        again = ema.network(torch.tensor([[[0.9]], [[-0.9]]]), SECOND, torch.ones(2, 1)).flatten().tolist()
    assert abs(first - side.mean().item()) < 0.15
    assert again == pytest.approx([1.0, -1.0], abs=0.15)  # the second call keeps to the side that it is given


def test_it_needs_neither_teacher_nor_ranking_and_survives_json():
    record = METHODS["mip"]()
    assert (record.teacher, record.ranked, record.needs) == (None, False, "windows")
    policy = make()
    config = MIPConfig(**json.loads(json.dumps(asdict(policy.config))))
    again = MIPPolicy(config, spec_of(known(4), C, O))
    again.load_state_dict(policy.state_dict())
    prior, context = normal(3, 4, D), normal(3, C, seed=1)
    assert torch.equal(policy.sample(prior, context), again.sample(prior, context))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"t_star": 0.0}, "0 < t_star < 1"), ({"t_star": 1.0}, "t_star"), ({"second_weight": 0.0}, "second_weight"),
     ({"first_action_weight": 0.0}, "first_action_weight"), ({"network": "cnn"}, "there are mlp, unet")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)
