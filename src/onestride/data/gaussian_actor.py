"""A Gaussian MLP actor, in NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onestride.data.pickled import describe

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
LARGEST_NUMBER = 1e300  # larger integers have no float
LOG_STD_RANGE = -20.0, 2.0  # of squashed Gaussians, the range of their training

Layer = tuple[np.ndarray, np.ndarray]  # weight (out, in), bias (out,): y = W x + b


@dataclass(frozen=True)
class BehaviourPolicy:
    """A Gaussian MLP actor: normalised observation -> hidden layers -> mean and log deviation -> action in [-1, 1].

    Attributes:
        name: of the actor.
        hidden: hidden layers.
        mean: output layer of the mean.
        log_std: output layer of the log standard deviation.
        activation: of the hidden layers, a name in ``ACTIVATIONS``.
        squash: whether tanh follows sampling.
        obs_mean: mean of observations (O,).
        obs_std: standard deviation of observations (O,).
        clip_obs: normalised observations are clipped to this.
        extra_noise: standard deviation of noise added to the sampled action.
        env_id: the environment that it was trained in, or None.

    Raises:
        ValueError: shapes do not match, a number is not finite, or a setting is unknown.
    """

    name: str
    hidden: tuple[Layer, ...]
    mean: Layer
    log_std: Layer
    activation: str
    squash: bool
    obs_mean: np.ndarray = field(repr=False)
    obs_std: np.ndarray = field(repr=False)
    clip_obs: float = np.inf
    extra_noise: float = 0.0
    env_id: str | None = None
    n_obs_steps = 1

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
        """O, the size of an observation."""
        return len(self.obs_mean)

    @property
    def action_dim(self) -> int:
        """A, the size of an action."""
        return len(self.mean[0])

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits of a SHA-256 of weights and settings."""
        settings = self.activation, bool(self.squash), float(self.clip_obs), float(self.extra_noise)
        digest = hashlib.sha256(repr(settings).encode())
        for name, value in self._arrays().items():
            digest.update(f"{name}{value.shape}".encode() + np.ascontiguousarray(value, "<f8").tobytes())
        return digest.hexdigest()[:12]

    def act(self, observations: np.ndarray, rngs: Sequence[np.random.Generator] | None = None) -> np.ndarray:
        """Return actions (B, A) in [-1, 1] for observations (B, O): sampled, or the mean actions without ``rngs``.

        Row i draws 2 A normals from ``rngs[i]`` and is computed apart from the others. An episode therefore depends on
        its own generator alone, to the last bit, and not on the size of the batch.

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


def _linear(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Return a layer's output (B, out), row by row: the rounding of a matrix product depends on its number of rows."""
    return (layer[0] @ x[:, :, None])[..., 0] + layer[1]


def layer_of(weight: np.ndarray, bias: np.ndarray) -> Layer:
    """Return a layer in float32."""
    return weight.astype(np.float32), bias.astype(np.float32)


def number(name: str, value: Any) -> float:
    """Return a setting of an actor's file as a float. Raise ValueError with its name where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
        raise ValueError(f"expected a number for '{name}', got {describe(value)}")
    return float(value)


def deviation(variance: np.ndarray, epsilon: float) -> np.ndarray:
    """Return the standard deviation (O,) that observations are divided by, from their variance (O,).

    Raises:
        ValueError: a variance is negative or not a number.
    """
    if not (variance >= 0).all():  # NaN is refused here too
        raise ValueError("the observation's variance is negative or not a number: the file is spoilt")
    return np.sqrt(variance + epsilon)
