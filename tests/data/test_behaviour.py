"""Behaviour policies: each file's form against a forward pass written here, and what is refused."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import sys
import types
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from onestride.data.behaviour import BehaviourPolicy, read_behaviour
from onestride.files import CheckpointError

O, A = 5, 3  # noqa: E741
SETTINGS = {"activation": "tanh", "squash": False, "clip_obs": 1.5, "extra_action_noise_std": 0.0, "env_id": "Point-v0"}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def torch_actor(activation=nn.Tanh, widths=(16, 8)):
    torch.manual_seed(0)
    pairs = zip((O, *widths), widths, strict=False)
    layers = [layer for before, after in pairs for layer in (nn.Linear(before, after), activation())]
    return nn.Sequential(*layers), nn.Linear(widths[-1], A), nn.Linear(widths[-1], A)


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


def generators(count, first=0):
    return [np.random.default_rng(first + i) for i in range(count)]


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


# ---- Stable-Baselines3 ----


def sac_state(activation=nn.ReLU):
    body, mean, log_std = torch_actor(activation)
    parts = {"actor.latent_pi": body, "actor.mu": mean, "actor.log_std": log_std, "critic.qf0.0": nn.Linear(O + A, 4)}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def ppo_state(activation=nn.Tanh):
    body, mean, _ = torch_actor(activation)
    parts = {"mlp_extractor.policy_net": body, "action_net": mean, "mlp_extractor.value_net.0": nn.Linear(O, 4)}
    state = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    return {"log_std": torch.tensor([-1.0, -2.0, -0.5]), **state}


def write_zip(path, state, **changes):
    data = {
        "policy_class": {
            ":type:": "<class 'abc.ABCMeta'>",
            ":serialized:": "AAAA",
            "__module__": "stable_baselines3.x",
        },
        "policy_kwargs": {},
        "use_sde": False,
        "_last_original_obs": None,
        "action_space": {":serialized:": "AAAA", "low": "[-1. -1.\n -1.]", "high": "[1. 1. 1.]"},
        **changes,
    }
    weights = io.BytesIO()
    torch.save(collections.OrderedDict(state), weights)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", json.dumps(data))
        file.writestr("policy.pth", weights.getvalue())
    return path


def activation_of(module):
    return {":serialized:": "AAAA", "activation_fn": f"<class 'torch.nn.modules.activation.{module.__name__}'>"}


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


def test_a_zip_of_something_else_is_refused(npz):
    path = npz.rename(npz.with_suffix(".zip"))
    with pytest.raises(CheckpointError, match=r"expected 'data' and 'policy\.pth' .* found \['b0\.npy'"):
        read_behaviour(path)


class Evil:
    """What a pickle may hold: a call, made by whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_an_evil_policy_is_refused_and_not_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"policy\.pth holds more than tensors"):
        read_behaviour(write_zip(tmp_path / "p.zip", {"log_std": Evil(tmp_path / "made")}))
    assert not (tmp_path / "made").exists()


# ---- vecnormalize.pkl ----

VEC_NORMALIZE = "stable_baselines3.common.vec_env.vec_normalize"


@pytest.fixture
def library(monkeypatch):
    """The two classes under the library's names, to pickle; gone again when the file is read."""
    parts = VEC_NORMALIZE.split(".")
    with monkeypatch.context() as patch:
        for end in range(len(parts)):
            name = ".".join(parts[: end + 1])
            patch.setitem(sys.modules, name, types.ModuleType(name))
        for name in ("VecNormalize", "RunningMeanStd"):
            setattr(sys.modules[VEC_NORMALIZE], name, type(name, (), {"__module__": VEC_NORMALIZE}))
        yield patch


def pickled(library, protocol=4, dtype="<f8", **changes):
    module = sys.modules[VEC_NORMALIZE]
    made, statistics = module.VecNormalize(), module.RunningMeanStd()
    vars(statistics).update(mean=(np.arange(O) - 2).astype(dtype), var=(np.arange(O) + 0.5).astype(dtype), count=10.0)
    vars(made).update(
        obs_rms=statistics, epsilon=1e-2, clip_obs=1.5, norm_obs=True, returns=np.zeros(1), rng=np.random.default_rng(0)
    )
    vars(made).update(spaces=collections.OrderedDict(a=np.float64(1)), **changes)
    raw = pickle.dumps(made, protocol)
    library.undo()
    return raw


@pytest.mark.parametrize(("protocol", "dtype"), [(3, "<f8"), (4, "<f8"), (5, "<f8"), (4, ">f8"), (5, "<f4")])
def test_observations_are_normalised_as_the_pickle_says(tmp_path, rng, library, protocol, dtype):
    (tmp_path / "vecnormalize.pkl").write_bytes(pickled(library, protocol, dtype))
    path = write_zip(tmp_path / "p.zip", ppo_state(), _last_original_obs={":serialized:": "AAAA"})
    policy = read_behaviour(path, tmp_path / "vecnormalize.pkl")
    assert "stable_baselines3" not in sys.modules
    observations = 3 * rng.standard_normal((7, O))
    x = ((observations - np.arange(O) + 2) / np.sqrt(np.arange(O) + 0.51)).clip(-1.5, 1.5)
    body, mean, _ = torch_actor()
    with torch.no_grad():
        expected = mean(body(torch.from_numpy(x).float())).clamp(-1, 1)
    torch.testing.assert_close(torch.from_numpy(policy.act(observations)), expected)


def test_a_normaliser_of_rewards_alone_changes_nothing(tmp_path, library):
    (tmp_path / "v.pkl").write_bytes(pickled(library, norm_obs=False))
    path = write_zip(tmp_path / "p.zip", ppo_state())
    assert read_behaviour(path, tmp_path / "v.pkl").identity == read_behaviour(path).identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs_rms": {"a": 1}}, "expected a VecNormalize of vectors"),
        ({"epsilon": "small"}, "a number for 'epsilon', got 'small'"),
        ({"dtype": "<i8"}, r"an array \(5,\) of i8"),
    ],
)
def test_other_statistics_are_refused(tmp_path, library, changes, message):
    (tmp_path / "v.pkl").write_bytes(pickled(library, **changes))
    with pytest.raises(CheckpointError, match=message):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


@pytest.mark.parametrize("inside", [False, True])
def test_an_evil_normaliser_is_refused_and_not_run(tmp_path, library, inside):
    evil = Evil(tmp_path / "made")
    (tmp_path / "v.pkl").write_bytes(pickled(library, extra=evil) if inside else pickle.dumps(evil))
    with pytest.raises(CheckpointError, match=r"it names \w+\.mkdir, which no normaliser needs"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("raw", [b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps(np.zeros(O)), b"\x80\x04K"])
def test_another_pickle_is_refused(tmp_path, raw):
    (tmp_path / "v.pkl").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"v\.pkl is refused, expected a VecNormalize"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


def test_shapes_are_checked_when_a_policy_is_made(npz):
    policy = read_behaviour(npz)
    with pytest.raises(ValueError, match="hidden layer 0: expected weight"):
        BehaviourPolicy(**{**vars(policy), "hidden": policy.hidden[1:]})
