"""Actors of Stable-Baselines3: against a forward pass in torch, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from actor_files import A, Evil, O, activation_of, generators, ppo_state, sac_state, torch_actor, write_zip
from onestride.data.actors import read_behaviour
from onestride.files import CheckpointError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("module", "kwargs"), [(nn.ReLU, {}), (nn.Tanh, activation_of(nn.Tanh))])
def test_sac_and_tqc(tmp_path, rng, module, kwargs):
    state = sac_state(module)
    state["actor.log_std.bias"] = torch.tensor([5.0, -1.0, -30.0])  # beyond the range on both sides
    policy = read_behaviour(write_zip(tmp_path / "Point-v3.zip", state, policy_kwargs=kwargs))
    observations = rng.standard_normal((7, O))
    body, mean, log_std = torch_actor(module)
    with torch.no_grad():
        log_std.bias.copy_(state["actor.log_std.bias"])
        latent = body(torch.from_numpy(observations).float())
        noise = torch.from_numpy(np.stack([g.standard_normal((2, A))[0] for g in generators(7)])).float()
        sampled = (mean(latent) + log_std(latent).clamp(-20, 2).exp() * noise).tanh()
        torch.testing.assert_close(torch.from_numpy(policy.act(observations)), mean(latent).tanh())
        torch.testing.assert_close(torch.from_numpy(policy.act(observations, generators(7))), sampled)
    assert (policy.name, policy.env_id) == ("Point-v3", None)


@pytest.mark.parametrize(("module", "kwargs"), [(nn.Tanh, {}), (nn.ELU, activation_of(nn.ELU))])
@pytest.mark.parametrize("shared", [False, True])
def test_ppo_and_a2c(tmp_path, rng, module, kwargs, shared):
    state = ppo_state(module)
    if shared:  # before version 1.8 the first layers could serve policy and value both
        for part in ("weight", "bias"):
            state[f"mlp_extractor.shared_net.0.{part}"] = state.pop(f"mlp_extractor.policy_net.0.{part}")
            state[f"mlp_extractor.policy_net.0.{part}"] = state.pop(f"mlp_extractor.policy_net.2.{part}")
    policy = read_behaviour(write_zip(tmp_path / "p.zip", state, policy_kwargs=kwargs))
    observations = 3 * rng.standard_normal((7, O))
    body, mean, _ = torch_actor(module)
    with torch.no_grad():
        raw = mean(body(torch.from_numpy(observations).float()))
        noise = torch.from_numpy(np.stack([g.standard_normal((2, A))[0] for g in generators(7)])).float()
        torch.testing.assert_close(torch.from_numpy(policy.act(observations)), raw.clamp(-1, 1))
        sampled = (raw + state["log_std"].exp() * noise).clamp(-1, 1)
        torch.testing.assert_close(torch.from_numpy(policy.act(observations, generators(7))), sampled)


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("state", "changes", "message"),
    [
        (sac_state(), {"use_sde": True}, "gSDE"),
        (ppo_state(), {"_last_original_obs": {":serialized:": "AAAA"}}, "give its vecnormalize.pkl"),
        (ppo_state() | {"features_extractor.cnn.0.weight": torch.zeros(8, 4, 3, 3)}, {}, r"features_extractor\.cnn"),
        (sac_state() | {"actor.features_extractor.cnn.0.bias": torch.zeros(8)}, {}, r"features_extractor\.cnn"),
        (without(ppo_state(), "log_std"), {}, "actions are discrete"),
        (without(sac_state(), "actor.mu.weight"), {}, r"missing \['actor\.mu\.weight'\]"),
        (without(sac_state(), "actor.latent_pi.2.bias"), {}, r"'actor\.latent_pi\.2\.bias' is missing"),
        (sac_state() | {"actor.latent_pi.0.running_mean": torch.zeros(O)}, {}, "no actor of SAC, TQC, PPO or A2C"),
        ({"actor.mu.0.weight": torch.zeros(A, O)}, {}, r"no actor of SAC.*unknown \['actor\.mu\.0\.weight'\]"),
        (ppo_state() | {"lstm_actor.weight_ih_l0": torch.zeros(8, O)}, {}, "unknown .*lstm_actor"),
        (ppo_state() | {"log_std": torch.full((A,), torch.nan)}, {}, "log_std, bias holds a number that is not finite"),
        (ppo_state() | {"log_std": torch.zeros(16, A)}, {}, r"log_std: expected .* \(16, 3\)"),
        (sac_state(), {"policy_kwargs": activation_of(nn.GLU)}, "activation 'glu' is not known"),
        (sac_state(), {"policy_kwargs": {"features_extractor_class": "<class 'mine.Net'>"}}, r"code of its own .*mine"),
        (sac_state(), {"policy_class": {"__module__": "mine.policies"}}, r"code of its own .*mine"),
        (sac_state(), {"policy_kwargs": "tanh"}, "'policy_kwargs' of the settings to be an object, got 'tanh'"),
        (sac_state(), {"action_space": {"low": "[-2. -1. -1.]"}}, "low is .*'-2.'"),
        (sac_state(), {"action_space": {"low": "[-1. -1. -1.]", "high": "[1. 0.4 1.]"}}, "high is .*0.4"),
        ({"state": [1, 2]}, {}, "state dict of tensors"),
    ],
)
def test_agents_that_would_be_read_wrongly_are_refused(tmp_path, state, changes, message):
    with pytest.raises(CheckpointError, match=message):
        read_behaviour(write_zip(tmp_path / "p.zip", state, **changes))


def test_an_evil_policy_is_refused_and_not_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"policy\.pth holds more than tensors"):
        read_behaviour(write_zip(tmp_path / "p.zip", {"log_std": Evil(tmp_path / "made")}))
    assert not (tmp_path / "made").exists()
