"""Behaviour policies: each file's form against a forward pass written here, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from actor_files import A, O, generators, torch_actor
from onestride.data.actors import BehaviourPolicy, read_behaviour
from onestride.files import CheckpointError

SETTINGS = {"activation": "tanh", "squash": False, "clip_obs": 1.5, "extra_action_noise_std": 0.0, "env_id": "Point-v0"}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def npz_arrays(actor):
    body, mean, log_std = actor
    arrays = {"obs_mean": np.arange(O) - 2.0, "obs_var": np.arange(O) + 0.5}
    for name, layer in [*enumerate(body[::2]), ("_mean", mean), ("_logstd", log_std)]:
        arrays |= {f"w{name}": layer.weight.detach().numpy(), f"b{name}": layer.bias.detach().numpy()}
    return arrays


def write_npz(path, arrays, **changes):
    metadata = np.frombuffer(json.dumps({**SETTINGS, **changes}).encode(), np.uint8)
    np.savez(path, metadata=metadata, **arrays)
    return path


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "point-medium.npz", npz_arrays(torch_actor()))


# ---- acting ----


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "module"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("elu", nn.ELU)])
def test_an_npz_acts_as_its_network_in_torch(tmp_path, rng, name, module, squash):
    body, mean, log_std = actor = torch_actor(module)
    policy = read_behaviour(write_npz(tmp_path / "p.npz", npz_arrays(actor), activation=name, squash=squash))
    observations = 3 * rng.standard_normal((11, O))
    epsilon = 0 if squash else 1e-8
    x = ((observations - np.arange(O) + 2) / np.sqrt(np.arange(O) + 0.5 + epsilon)).clip(-1.5, 1.5)
    with torch.no_grad():
        latent = body(torch.from_numpy(x).float())
        noise = torch.from_numpy(np.stack([g.standard_normal((2, A))[0] for g in generators(11)])).float()
        expected = [mean(latent), mean(latent) + log_std(latent).exp() * noise]
    for actions, raw in zip(
        (policy.act(observations), policy.act(observations, generators(11))), expected, strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(actions), raw.tanh() if squash else raw.clamp(-1, 1))
        assert actions.dtype == np.float32
    assert (policy.name, policy.env_id, policy.observation_dim, policy.action_dim) == ("p", "Point-v0", O, A)


def test_sampled_actions_have_the_deviation_that_the_file_says(tmp_path):
    arrays = npz_arrays(torch_actor())
    arrays["w_logstd"], arrays["b_logstd"] = 0 * arrays["w_logstd"], np.log(np.float32([0.1, 0.05, 0.02]))
    arrays["w_mean"] = 0 * arrays["w_mean"]
    policy = read_behaviour(write_npz(tmp_path / "p.npz", arrays, extra_action_noise_std=0.03))
    actions = policy.act(np.zeros((20_000, O)), [np.random.default_rng(0)] * 20_000)
    np.testing.assert_allclose(actions.mean(0), policy.act(np.zeros((1, O)))[0], atol=3e-3)
    np.testing.assert_allclose(actions.std(0), np.hypot([0.1, 0.05, 0.02], 0.03), rtol=0.03)


def test_noise_after_squashing_ends_within_the_limits(tmp_path, rng):
    path = write_npz(tmp_path / "p.npz", npz_arrays(torch_actor()), squash=True, extra_action_noise_std=2.0)
    actions = read_behaviour(path).act(rng.standard_normal((200, O)), generators(200))
    assert np.abs(actions).max() == 1
    assert (np.abs(actions) < 1).any()


def test_an_episode_does_not_depend_on_how_many_run_beside_it(tmp_path, rng):
    policy = read_behaviour(write_npz(tmp_path / "p.npz", npz_arrays(torch_actor(widths=(256, 256)))))
    observations = rng.standard_normal((9, O))
    together = policy.act(observations, generators(9))
    for row in range(9):
        alone = policy.act(observations[row : row + 1], generators(1, first=row))
        assert np.array_equal(alone[0], together[row])  # to the last bit


def test_a_wrong_observation_names_the_size_and_the_environment(npz):
    with pytest.raises(ValueError, match=r"takes observations \(B, 5\), got \(2, 4\).*Point-v0"):
        read_behaviour(npz).act(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="one generator per row, 2, got 1"):
        read_behaviour(npz).act(np.zeros((2, O)), generators(1))


def test_the_same_actor_has_the_same_identity_whatever_its_file_is_called(npz, tmp_path):
    policy = read_behaviour(npz)
    again = read_behaviour(write_npz(tmp_path / "other.npz", npz_arrays(torch_actor())))
    assert policy.identity == again.identity
    others = [
        replace(policy, squash=True),
        replace(policy, extra_noise=0.1),
        replace(policy, obs_std=policy.obs_std * 2),
    ]
    assert len({policy.identity, *(other.identity for other in others)}) == 4


# ---- .npz: what is refused ----


@pytest.mark.parametrize("name", ["w0", "b1", "w_mean", "b_logstd", "obs_var"])
def test_a_missing_array_is_named(tmp_path, name):
    arrays = npz_arrays(torch_actor())
    del arrays[name]
    with pytest.raises(CheckpointError, match=name):
        read_behaviour(write_npz(tmp_path / "p.npz", arrays))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("w1", np.full((8, 16), np.nan), "hidden layer 1, weight holds a number that is not finite"),
        ("b_mean", np.full(A, np.inf), "mean, bias holds a number that is not finite"),
        ("w1", np.zeros((8, 15)), r"hidden layer 1: expected weight \(8, 16\)"),
        ("b0", np.zeros(7), r"hidden layer 0: expected weight \(7, 5\)"),
        ("w_logstd", np.zeros((A + 1, 8)), r"log_std: expected weight \(3, 8\)"),
        ("obs_mean", np.zeros(O + 1), r"got shapes \(6,\) and \(5,\)"),
        ("obs_var", -np.ones(O), "variance is negative"),
        ("w9", np.zeros((2, 2)), r"missing \['b2', 'w2'\], unknown \['w9'\]"),
        ("w0", np.array([None]), "allow_pickle=False"),
    ],
)
def test_spoilt_arrays_are_refused(tmp_path, name, value, message):
    with pytest.raises(CheckpointError, match=message):
        read_behaviour(write_npz(tmp_path / "p.npz", {**npz_arrays(torch_actor()), name: value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "swish"}, "activation 'swish' is not known; known: relu, tanh, elu"),
        ({"squash": "no"}, "true or false for 'squash', got 'no'"),
        ({"clip_obs": -1}, "clip_obs > 0"),
        ({"extra_action_noise_std": None}, "a number for 'extra_action_noise_std', got None"),
    ],
)
def test_unknown_settings_are_refused(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        read_behaviour(write_npz(tmp_path / "p.npz", npz_arrays(torch_actor()), **change))


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_a_file_cut_short_is_refused(npz, tmp_path, kind):
    path = tmp_path / f"cut.{kind}"
    for size in (0, 30, npz.stat().st_size // 2):
        path.write_bytes(npz.read_bytes()[:size])
        with pytest.raises(CheckpointError, match="altered or cut short: fetch it again"):
            read_behaviour(path)


def test_a_file_with_a_flipped_byte_is_refused(npz):
    raw = bytearray(npz.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    npz.write_bytes(raw)
    with pytest.raises(CheckpointError, match="altered or cut short"):
        read_behaviour(npz)


def test_other_files_are_refused(npz, tmp_path):
    (tmp_path / "p.pt").touch()
    with pytest.raises(CheckpointError, match=r"expected an \.npz or a Stable-Baselines3 \.zip"):
        read_behaviour(tmp_path / "p.pt")
    with pytest.raises(CheckpointError, match="holds its own normaliser"):
        read_behaviour(npz, normalizer=npz)
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        read_behaviour(tmp_path / "nothing.npz")


def test_a_zip_of_something_else_is_refused(npz):
    path = npz.rename(npz.with_suffix(".zip"))
    with pytest.raises(CheckpointError, match=r"expected 'data' and 'policy\.pth' .* found \['b0\.npy'"):
        read_behaviour(path)


def test_shapes_are_checked_when_a_policy_is_made(npz):
    policy = read_behaviour(npz)
    with pytest.raises(ValueError, match="hidden layer 0: expected weight"):
        BehaviourPolicy(**{**vars(policy), "hidden": policy.hidden[1:]})
