"""Behaviour policies: trained actors that datasets are collected with, read as weights alone.

Two forms are read: an ``.npz`` of arrays and settings, and a Stable-Baselines3 ``.zip`` (SAC, TQC, PPO, A2C) with
the ``vecnormalize.pkl`` of its observation normaliser. Nothing in them is executed: of a pickle only numbers are
taken, and every class it names stays a name.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.files import CheckpointError

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
#: What loading altered bytes as a pickle raises.
SPOILT_PICKLE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError)
SPOILT_PICKLE += (RuntimeError, OverflowError, MemoryError)
LOG_STD_RANGE = -20.0, 2.0  # of squashed Gaussians, as they were trained

Layer = tuple[np.ndarray, np.ndarray]  # weight (out, in), bias (out,): y = W x + b


@dataclass(frozen=True)
class BehaviourPolicy:
    """A Gaussian MLP actor: normalised observation -> hidden layers -> mean and log deviation -> action.

    ``squash``: tanh after sampling. ``extra_noise``: deviation of noise added after that. Actions end in [-1, 1].

    Raises ``ValueError`` when shapes do not follow one another, a number is not finite, or a setting is unknown.
    """

    name: str
    hidden: tuple[Layer, ...]
    mean: Layer
    log_std: Layer
    activation: str
    squash: bool
    obs_mean: np.ndarray = field(repr=False)
    obs_std: np.ndarray = field(repr=False)
    clip_obs: float = np.inf  # of the normalised observation
    extra_noise: float = 0.0
    env_id: str | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation '{self.activation}' is not known; known: {', '.join(ACTIVATIONS)}")
        if not (np.isfinite(self.extra_noise) and self.extra_noise >= 0 and self.clip_obs > 0):
            raise ValueError(
                f"expected extra_noise >= 0 and clip_obs > 0, got {self.extra_noise} and {self.clip_obs}: mend the file"
            )
        for name, value in self._arrays().items():
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds a number that is not finite: the weights are spoilt, take another file")
        width = self.obs_mean.shape[0] if self.obs_mean.ndim == 1 else -1
        if width < 1 or self.obs_std.shape != (width,) or not (self.obs_std > 0).all():
            raise ValueError(
                "expected the observation's mean (O,) and positive deviation (O,), got shapes "
                f"{self.obs_mean.shape} and {self.obs_std.shape}, least deviation {self.obs_std.min(initial=np.inf):g}"
            )
        for name, (weight, bias) in self._layers().items():
            rows = self.action_dim if name == "log_std" else bias.size
            if weight.shape != (rows, width) or bias.shape != (rows,):
                raise ValueError(
                    f"{name}: expected weight ({rows}, {width}) and bias ({rows},), got {weight.shape} and "
                    f"{bias.shape}: the arrays are not of one policy"
                )
            width = rows if name.startswith("hidden") else width

    @property
    def observation_dim(self) -> int:
        return len(self.obs_mean)

    @property
    def action_dim(self) -> int:
        return len(self.mean[0])

    @property
    def identity(self) -> str:
        """Twelve hex digits of a SHA-256 over weights and settings: whatever its file is called."""
        settings = self.activation, bool(self.squash), float(self.clip_obs), float(self.extra_noise)
        digest = hashlib.sha256(repr(settings).encode())
        for name, value in self._arrays().items():
            digest.update(f"{name}{value.shape}".encode() + np.ascontiguousarray(value, "<f8").tobytes())
        return digest.hexdigest()[:12]

    def act(self, observations: np.ndarray, rngs: Sequence[np.random.Generator] | None = None) -> np.ndarray:
        """Actions (B, A) in [-1, 1] for observations (B, O): sampled, or the mean action without ``rngs``.

        Row i draws from ``rngs[i]`` alone, 2 A normals a call, and is computed apart from the others: an episode
        depends on its own generator, to the last bit, not on how many run beside it.

        Raises:
            ValueError: another shape, or another number of generators than rows.
        """
        if observations.ndim != 2 or observations.shape[1] != self.observation_dim:
            raise ValueError(
                f"{self.name} takes observations (B, {self.observation_dim}), got {observations.shape}: "
                f"is this the environment it was trained in{f' ({self.env_id})' if self.env_id else ''}?"
            )
        if rngs is not None and len(rngs) != len(observations):
            raise ValueError(f"expected one generator per row, {len(observations)}, got {len(rngs)}")
        x = np.clip((observations - self.obs_mean) / self.obs_std, -self.clip_obs, self.clip_obs).astype(np.float32)
        for layer in self.hidden:
            x = ACTIVATIONS[self.activation](_linear(layer, x))
        actions = _linear(self.mean, x)
        if rngs is None:
            return np.tanh(actions) if self.squash else np.clip(actions, -1, 1)
        noise = np.empty((2, *actions.shape), np.float32)
        for row, rng in enumerate(rngs):
            noise[:, row] = rng.standard_normal((2, self.action_dim))
        log_std = _linear(self.log_std, x)
        if self.squash:
            log_std = np.clip(log_std, *LOG_STD_RANGE)
        actions = actions + np.exp(log_std) * noise[0]
        if self.squash:
            actions = np.tanh(actions)
        return np.clip(actions + np.float32(self.extra_noise) * noise[1], -1, 1)

    def _layers(self) -> dict[str, Layer]:
        hidden = {f"hidden layer {number}": layer for number, layer in enumerate(self.hidden)}
        return {**hidden, "mean": self.mean, "log_std": self.log_std}

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"obs_mean": self.obs_mean, "obs_std": self.obs_std}
        for name, (weight, bias) in self._layers().items():
            arrays |= {f"{name}, weight": weight, f"{name}, bias": bias}
        return arrays


def read_behaviour(path: Path, normalizer: Path | None = None) -> BehaviourPolicy:
    """The policy in ``path``, an ``.npz`` or a Stable-Baselines3 ``.zip``; nothing in it is executed.

    ``normalizer``: the ``vecnormalize.pkl`` of a ``.zip`` trained on normalised observations. PPO and A2C say that
    they need one; the files of SAC and TQC do not tell.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not such a file, cut short, spoilt, or an actor of a kind that is not read.
    """
    for wanted in (path, normalizer):
        if wanted is not None and not wanted.is_file():
            raise FileNotFoundError(f"there is no behaviour policy's file at {wanted}")
    try:
        if path.suffix not in (".npz", ".zip"):
            raise ValueError("expected an .npz or a Stable-Baselines3 .zip")
        if not zipfile.is_zipfile(path):
            raise ValueError("it was altered or cut short: fetch it again")
        if path.suffix == ".zip":
            return _read_zip(path, normalizer)
        if normalizer is not None:
            raise ValueError(f"it holds its own normaliser: leave {normalizer.name} away")
        return _read_npz(path)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{path}: it was altered or cut short ({error}): fetch it again") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _linear(layer: Layer, x: np.ndarray) -> np.ndarray:
    """(B, in) -> (B, out), one matrix-vector product a row: a product of matrices rounds by its number of rows."""
    return (layer[0] @ x[:, :, None])[..., 0] + layer[1]


def _layer(weight: np.ndarray, bias: np.ndarray) -> Layer:
    return weight.astype(np.float32), bias.astype(np.float32)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number for '{name}', got {value!r:.80}")
    return float(value)


def _deviation(variance: np.ndarray, epsilon: float) -> np.ndarray:
    if not (variance >= 0).all():  # NaN is refused here too
        raise ValueError("the observation's variance is negative or not a number: the file is spoilt")
    return np.sqrt(variance + epsilon)


# ---- .npz: arrays w0, b0, w1, ... and a JSON of settings ----


def _read_npz(path: Path) -> BehaviourPolicy:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    settings = json.loads(arrays.pop("metadata").tobytes()) if "metadata" in arrays else None
    if not isinstance(settings, dict):
        raise ValueError("it has no 'metadata', the settings as JSON: it is not a behaviour policy's file")
    hidden = range(sum(re.fullmatch(r"w\d+", name) is not None for name in arrays))
    names = {f"{kind}{part}" for kind in "wb" for part in (*hidden, "_mean", "_logstd")} | {"obs_mean", "obs_var"}
    wanted = {"activation", "squash", "clip_obs", "extra_action_noise_std"}
    missing = sorted((names - arrays.keys()) | (wanted - settings.keys()))
    unknown = sorted(arrays.keys() - names)
    if missing or unknown:
        raise ValueError(f"missing {missing}, unknown {unknown}: it is not a behaviour policy's file")
    squash = settings["squash"]
    if not isinstance(squash, bool):
        raise ValueError(f"expected true or false for 'squash', got {squash!r:.80}")
    layers = {part: _layer(arrays[f"w{part}"], arrays[f"b{part}"]) for part in (*hidden, "_mean", "_logstd")}
    return BehaviourPolicy(
        name=path.stem,
        hidden=tuple(layers[number] for number in hidden),
        mean=layers["_mean"],
        log_std=layers["_logstd"],
        activation=str(settings["activation"]),
        squash=squash,
        obs_mean=arrays["obs_mean"].astype(np.float64),
        obs_std=_deviation(arrays["obs_var"].astype(np.float64), 0.0 if squash else 1e-8),
        clip_obs=_number("clip_obs", settings["clip_obs"]),
        extra_noise=_number("extra_action_noise_std", settings["extra_action_noise_std"]),
        env_id=settings.get("env_id"),
    )


# ---- Stable-Baselines3: data (JSON) and policy.pth (a state dict) in a .zip ----


def _read_zip(path: Path, normalizer: Path | None) -> BehaviourPolicy:
    data, state = _open_zip(path)
    squash = any(name.startswith("actor.latent_pi.") for name in state)
    _check_kind(data, state, squash)
    if squash:  # SAC, TQC: both heads are linear
        hidden = _stack(state, "actor.latent_pi.")
        mean, log_std = (_layer(state[f"actor.{n}.weight"], state[f"actor.{n}.bias"]) for n in ("mu", "log_std"))
    else:  # PPO, A2C: one deviation for all observations
        hidden = _stack(state, "mlp_extractor.shared_net.") + _stack(state, "mlp_extractor.policy_net.")
        mean = _layer(state["action_net.weight"], state["action_net.bias"])
        log_std = _layer(np.zeros_like(mean[0]), state["log_std"])
        if normalizer is None and data.get("_last_original_obs") is not None:
            raise ValueError("it was trained on normalised observations: give its vecnormalize.pkl too")
    width = (*hidden, mean)[0][0].shape[-1]
    normal = _read_normalizer(normalizer) if normalizer is not None else None
    obs_mean, obs_std, clip_obs = normal or (np.zeros(width), np.ones(width), np.inf)
    given = str(_mapping(data, "policy_kwargs").get("activation_fn", "ReLU" if squash else "Tanh"))
    activation = given.rstrip("'>").rpartition(".")[2].lower()  # "<class 'torch.nn.modules.activation.ReLU'>"
    return BehaviourPolicy(path.stem, hidden, mean, log_std, activation, squash, obs_mean, obs_std, clip_obs)


def _open_zip(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The settings as they stand in the JSON, what is pickled in them left as text, and the weights by name."""
    with zipfile.ZipFile(path) as file:
        if {"data", "policy.pth"} - set(names := file.namelist()):
            raise ValueError(f"expected 'data' and 'policy.pth' of Stable-Baselines3, found {sorted(names)[:8]}")
        data, weights = json.loads(file.read("data")), io.BytesIO(file.read("policy.pth"))
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except SPOILT_PICKLE as error:  # its own advice is to execute the file
        raise ValueError("policy.pth holds more than tensors, or is cut short: it is not read") from error
    if not isinstance(data, dict):
        raise ValueError(f"expected 'data' to be an object of settings, got {type(data)}")
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"expected policy.pth to be a state dict of tensors, got {type(state)}")
    return data, {str(name): value.float().numpy() for name, value in state.items()}


def _check_kind(data: dict[str, Any], state: Mapping[str, np.ndarray], squash: bool) -> None:
    """Refuse what would be read wrongly: other algorithms, images, discrete actions, gSDE, other action ranges."""
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
    """The linear layers of a torch ``Sequential``, in order."""
    numbers = sorted({int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix)})
    missing = [n for i in numbers for p in ("weight", "bias") if (n := f"{prefix}{i}.{p}") not in state]
    if missing:
        raise ValueError(f"'{missing[0]}' is missing from the weights, found {sorted(state)[:4]}")
    return tuple(_layer(state[f"{prefix}{i}.weight"], state[f"{prefix}{i}.bias"]) for i in numbers)


# ---- vecnormalize.pkl: a pickle of which only numbers are taken ----


class _Named:
    """What stands for an object of class ``kind``: it keeps what the pickle gives it, and does nothing."""

    kind = ""
    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of a mapping are dropped: none is needed."""


class _Numbers(pickle.Unpickler):
    """Loads a pickle with no class and no function of it: each becomes a ``_Named``."""

    homes = frozenset({"stable_baselines3", "gymnasium", "gym", "numpy", "collections"})

    def find_class(self, module_name: str, global_name: str, /) -> type[_Named]:
        if module_name.partition(".")[0] not in self.homes:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which no normaliser needs")
        return type("_Named", (_Named,), {"kind": f"{module_name}.{global_name}"})


def _read_normalizer(path: Path) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Mean (O,), deviation (O,) and clip of a ``VecNormalize``; None where it leaves observations as they are.

    Raises ``ValueError`` for anything else, or for a pickle that names more than a normaliser needs.
    """
    try:
        with path.open("rb") as file:
            made = _Numbers(file).load()
        if not made.kind.endswith(".VecNormalize"):
            raise ValueError(f"it holds {made.kind}")
        if not made.state.get("norm_obs", True):
            return None
        statistics = made.state["obs_rms"].state
        epsilon, clip = (_number(name, made.state[name]) for name in ("epsilon", "clip_obs"))
        return _vector(statistics["mean"]), _deviation(_vector(statistics["var"]), epsilon), clip
    except SPOILT_PICKLE as error:
        raise ValueError(f"{path.name} is refused, expected a VecNormalize of vectors: {error}") from error


def _vector(made: Any) -> np.ndarray:
    """A pickled array (O,), built from its bytes, shape and type as they stand in the pickle."""
    if made.kind.endswith("._reconstruct"):
        _, shape, dtype, _, raw = made.state
    else:  # _frombuffer, of protocol 5
        raw, dtype, shape, _ = made.args
    if dtype.args[0] not in ("f4", "f8") or len(shape) != 1:
        raise ValueError(f"it holds an array {shape} of {dtype.args[0]}")
    order = ">" if dtype.state[1] == ">" else "<"
    return np.frombuffer(raw, order + dtype.args[0]).reshape(shape).astype(np.float64)
