"""Actors' files as Stable-Baselines3 writes them, without it: for the tests of their readers."""

from __future__ import annotations

import base64
import collections
import io
import json
import os
import pickle
import sys
import types
import zipfile
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

O, A = 5, 3  # noqa: E741


def torch_actor(activation=nn.Tanh, widths=(16, 8)):
    torch.manual_seed(0)
    pairs = zip((O, *widths), widths, strict=False)
    layers = [layer for before, after in pairs for layer in (nn.Linear(before, after), activation())]
    return nn.Sequential(*layers), nn.Linear(widths[-1], A), nn.Linear(widths[-1], A)


def generators(count, first=0):
    return [np.random.default_rng(first + i) for i in range(count)]


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
        file.writestr("_stable_baselines3_version", "2.9.0")
        file.writestr("data", json.dumps(data))
        file.writestr("policy.pth", weights.getvalue())
    return path


def kept(observation):
    """An observation as the library keeps it in a file."""
    return {":type:": "<class 'numpy.ndarray'>", ":serialized:": base64.b64encode(pickle.dumps(observation)).decode()}


def activation_of(module):
    return {":serialized:": "AAAA", "activation_fn": f"<class 'torch.nn.modules.activation.{module.__name__}'>"}


class Evil:
    """What a pickle may hold: a call, made by whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


VEC_NORMALIZE = "stable_baselines3.common.vec_env.vec_normalize"


def pickled(protocol=4, dtype="<f8", **changes):
    """A ``VecNormalize`` as the library pickles it: the classes are there under its names only meanwhile."""
    with patch.dict(sys.modules):
        parts = VEC_NORMALIZE.split(".")
        for end in range(len(parts)):
            name = ".".join(parts[: end + 1])
            sys.modules[name] = types.ModuleType(name)
        module = sys.modules[VEC_NORMALIZE]
        for name in ("VecNormalize", "RunningMeanStd"):
            setattr(module, name, type(name, (), {"__module__": VEC_NORMALIZE}))
        made, statistics = module.VecNormalize(), module.RunningMeanStd()
        mean, var = (np.arange(O) - 2).astype(dtype), (np.arange(O) + 0.5).astype(dtype)
        vars(statistics).update(mean=mean, var=var, count=10.0)
        settings = {"epsilon": 1e-2, "clip_obs": 1.5, "norm_obs": True, "returns": np.zeros(1)}
        vars(made).update(obs_rms=statistics, rng=np.random.default_rng(0), **settings)
        vars(made).update(spaces=collections.OrderedDict(a=np.float64(1)), **changes)
        return pickle.dumps(made, protocol)
