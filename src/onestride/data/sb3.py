"""Actors of Stable-Baselines3: a .zip with data (JSON) and policy.pth (a state dict)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.archive import open_archive, parse_object
from onestride.data.gaussian_actor import BehaviourPolicy, Layer, layer_of
from onestride.data.pickled import array_of, read_pickle
from onestride.data.torch_weights import read_state_dict
from onestride.data.vecnormalize import of_numbers, read_vecnormalize

VERSION = "_stable_baselines3_version"  # the member with the library's own version
LAST, ORIGINAL = "_last_obs", "_last_original_obs"


def read_sb3(path: Path, normalizer: Path | None, *, raw: bool = False) -> BehaviourPolicy:
    """Return the actor of a SAC, TQC, PPO or A2C.

    Args:
        path: the .zip.
        normalizer: its ``vecnormalize.pkl``, or None.
        raw: whether the user says that it was trained without a normaliser.

    Raises:
        ValueError: another file, an actor of a kind that is not read, or one that may need a ``normalizer``.
    """
    data, state, by_library = _open(path)
    squash = any(name.startswith("actor.latent_pi.") for name in state)
    _check_kind(data, state, squash)
    if squash:  # SAC, TQC: both heads are linear
        hidden = _stack(state, "actor.latent_pi.")
        mean, log_std = (layer_of(state[f"actor.{n}.weight"], state[f"actor.{n}.bias"]) for n in ("mu", "log_std"))
    else:  # PPO, A2C: one deviation for all observations
        hidden = _stack(state, "mlp_extractor.shared_net.") + _stack(state, "mlp_extractor.policy_net.")
        mean = layer_of(state["action_net.weight"], state["action_net.bias"])
        log_std = layer_of(np.zeros_like(mean[0]), state["log_std"])
    if normalizer is None and not raw:
        _check_raw(data, off_policy=squash, by_library=by_library)
    width = (*hidden, mean)[0][0].shape[-1]
    normal = read_vecnormalize(normalizer) if normalizer is not None else None
    obs_mean, obs_std, clip_obs = normal or (np.zeros(width), np.ones(width), np.inf)
    if obs_mean.shape != (width,):
        raise ValueError(f"it takes {width} numbers, and its statistics are of {obs_mean.size}: they are another's")
    given = str(_mapping(data, "policy_kwargs").get("activation_fn", "ReLU" if squash else "Tanh"))
    activation = given.rstrip("'>").rpartition(".")[2].lower()[:80]  # "<class 'torch.nn.modules.activation.ReLU'>"
    return BehaviourPolicy(path.stem, hidden, mean, log_std, activation, squash, obs_mean, obs_std, clip_obs)


def _open(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], bool]:
    """Return the settings, the weights by name, and whether the file has the library's version.

    Settings are as in the JSON, in which pickles stay text.
    """
    with open_archive(path) as archive:
        if {"data", "policy.pth"} - set(archive.names):
            found = sorted(archive.names)[:8]
            raise ValueError(f"expected 'data' and 'policy.pth' of Stable-Baselines3, found {found}")
        data = parse_object("data", archive.read("data"))
        return data, read_state_dict(archive.read("policy.pth")), VERSION in archive.names


def _check_raw(data: dict[str, Any], *, off_policy: bool, by_library: bool) -> None:
    """Refuse an actor that was or may have been trained with ``VecNormalize``.

    The library stores the last observation as the actor got it, and as the environment gave it. PPO and A2C store the
    second only with ``VecNormalize``. SAC and TQC always store it; without a normaliser it is the previous step's, and
    both have the environment's dtype, while normalised observations are float32. So the two cases differ for an
    environment with float64, such as MuJoCo's, but not for one with float32.
    """
    if data.get(ORIGINAL) is None:
        return
    advice = "give its vecnormalize.pkl after it (in Python: normalizer=)"
    if not off_policy:
        raise ValueError(f"it was trained on normalised observations: {advice}")
    seen, original = (_kept(data, name) for name in (LAST, ORIGINAL))
    if seen is not None and original is not None and by_library:
        if seen.dtype == original.dtype == np.float64 and not np.array_equal(seen, original):
            return
        if seen.dtype != original.dtype:
            raise ValueError(f"it was trained on normalised observations: {advice}")
    raise ValueError(
        f"it may have been trained on normalised observations (VecNormalize), its file does not tell: {advice}; if "
        "there was no normaliser, say so by the word raw after it"
    )


def _kept(data: dict[str, Any], name: str) -> np.ndarray | None:
    """Return an observation that the library stored, or None where it cannot be read."""
    text = _mapping(data, name).get(":serialized:")
    try:
        return array_of(read_pickle(base64.b64decode(text), of_numbers)) if isinstance(text, str) else None
    except (ValueError, binascii.Error):
        return None


def _check_kind(data: dict[str, Any], state: Mapping[str, np.ndarray], squash: bool) -> None:
    """Refuse what is not supported: other algorithms, images, discrete actions, gSDE, other action ranges."""
    if squash:
        actor = {name for name in state if name.startswith("actor.")}
        heads = {f"actor.{head}.{part}" for head in ("mu", "log_std") for part in ("weight", "bias")}
        layer = r"actor\.latent_pi\.\d+\.(weight|bias)"
    else:
        actor = {name for name in state if not name.startswith(("mlp_extractor.value_net.", "value_net."))}
        heads = {"action_net.weight", "action_net.bias", "log_std"}
        layer = r"mlp_extractor\.(shared|policy)_net\.\d+\.(weight|bias)"
    if data.get("use_sde"):
        raise ValueError("it explores by gSDE, which is not read: train it with use_sde=False")
    if images := sorted(name for name in actor if "features_extractor" in name):
        raise ValueError(f"its observation goes through {images[:3]}: only actors on plain vectors are read")
    if "action_net.weight" in state and "log_std" not in state:
        raise ValueError("it has no 'log_std': its actions are discrete, only continuous ones are read")
    other = sorted(name for name in actor - heads if not re.fullmatch(layer, name))
    if other or heads - actor:
        raise ValueError(
            f"it is no actor of SAC, TQC, PPO or A2C: missing {sorted(heads - actor)}, unknown {other[:4]}, "
            f"found {sorted(state)[:4]}"
        )
    extractor = str(_mapping(data, "policy_kwargs").get("features_extractor_class", "FlattenExtractor"))
    home = str(_mapping(data, "policy_class").get("__module__", "stable_baselines3"))
    if "FlattenExtractor" not in extractor or home.partition(".")[0] not in ("stable_baselines3", "sb3_contrib"):
        raise ValueError(f"it was made with code of its own ({extractor}, {home}), which is not run")
    for side, end in (("low", "-1."), ("high", "1.")):
        ends = str(_mapping(data, "action_space").get(side, end)).strip("[]").split()
        if set(ends) - {end, end + "0"}:
            raise ValueError(f"its actions' {side} is {ends}, expected {end} throughout: rescale its environment")


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name) or {}
    if not isinstance(value, dict):
        raise ValueError(f"expected '{name}' of the settings to be an object, got {value!r:.80}")
    return value


def _stack(state: Mapping[str, np.ndarray], prefix: str) -> tuple[Layer, ...]:
    """Return the linear layers of a torch ``Sequential``, in order."""
    numbers = sorted({int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)})
    missing = [n for i in numbers for p in ("weight", "bias") if (n := f"{prefix}{i}.{p}") not in state]
    if missing:
        raise ValueError(f"'{missing[0]}' is missing from the weights, found {sorted(state)[:4]}")
    return tuple(layer_of(state[f"{prefix}{i}.weight"], state[f"{prefix}{i}.bias"]) for i in numbers)
