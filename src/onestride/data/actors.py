"""Behaviour policies: trained actors that datasets are collected with.

Two formats are read: an ``.npz`` of arrays and settings, and a Stable-Baselines3 ``.zip`` (SAC, TQC, PPO, A2C) with
the ``vecnormalize.pkl`` of its observation normaliser. Nothing in them is executed: only numbers are taken from a
pickle, and no class that it names is imported. A trained planner's folder is read by ``policy/behaviour.py``.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from onestride.data.archive import array_names, open_archive, parse_object
from onestride.data.gaussian_actor import BehaviourPolicy, deviation, layer_of, number
from onestride.data.pickled import describe
from onestride.data.sb3 import read_sb3
from onestride.files import CheckpointError, size_of_file
from onestride.registry import UnknownNameError, attribute

__all__ = ["Behaviour", "BehaviourPolicy", "identities", "read_behaviour", "read_behaviours"]

LONGEST = 600  # longest message in characters, because names in a file may have any length
RAW = "raw"  # marks an actor that was trained on its environment's own observations
NOISE = "noise="  # before a number: what is added to the actions of the behaviour before it


class Behaviour(Protocol):
    """Acts in an environment, to collect episodes."""

    @property
    def name(self) -> str:
        """What it is called in the data."""
        ...

    @property
    def identity(self) -> str:
        """Hexadecimal digits that change with what it does."""
        ...

    @property
    def observation_dim(self) -> int | None:
        """The size of one observation; None: whatever the environment gives."""
        ...

    @property
    def action_dim(self) -> int | None:
        """A; None: whatever the environment takes."""
        ...

    @property
    def n_obs_steps(self) -> int:
        """How many of the last observations it is given, the oldest first."""
        ...

    def act(self, observations: np.ndarray, streams: Sequence[np.random.Generator], /) -> np.ndarray:
        """Return actions (B, A), or chunks of actions (B, n, A), for observations (B, n_obs_steps O).

        Row i depends on its observation and on ``streams[i]`` alone.
        """
        ...


@dataclass(frozen=True)
class Scripted:
    """A demonstrator written by hand: a function of one observation (O,) and a random generator, to an action (A,)."""

    name: str
    function: Callable[[np.ndarray, np.random.Generator], Any]
    identity: str
    observation_dim: int | None = None  # whatever the environment gives
    action_dim: int | None = None
    n_obs_steps = 1

    def act(self, observations: np.ndarray, streams: Sequence[np.random.Generator]) -> np.ndarray:
        """Return actions (B, A) for observations (B, O), with a generator for each."""
        return np.stack([np.asarray(self.function(o, rng)) for o, rng in zip(observations, streams, strict=True)])


@dataclass(frozen=True)
class Noisy:
    """A behaviour to whose actions Gaussian noise is added, in the actions' own units. It does not clip them.

    Attributes:
        actor: the behaviour.
        deviation: standard deviation of the noise, beside what the behaviour has of its own.
    """

    actor: Behaviour
    deviation: float

    @property
    def name(self) -> str:
        """The behaviour's, and the noise."""
        return f"{self.actor.name}+{NOISE}{self.deviation:g}"

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits of the behaviour's identity and the noise."""
        return hashlib.sha256(f"{self.actor.identity} {self.deviation!r}".encode()).hexdigest()[:12]

    @property
    def observation_dim(self) -> int | None:
        """The behaviour's."""
        return self.actor.observation_dim

    @property
    def action_dim(self) -> int | None:
        """The behaviour's."""
        return self.actor.action_dim

    @property
    def n_obs_steps(self) -> int:
        """The behaviour's."""
        return self.actor.n_obs_steps

    def act(self, observations: np.ndarray, streams: Sequence[np.random.Generator], /) -> np.ndarray:
        """Return the behaviour's actions with noise of each row's own generator, drawn after the behaviour's."""
        actions = self.actor.act(observations, streams)
        noise = [stream.standard_normal(actions.shape[1:]) for stream in streams]
        return actions + self.deviation * np.stack(noise).astype(np.float32)


def identities(actors: Sequence[Behaviour]) -> list[dict[str, str]]:
    """Return the actors' names and what their actions depend on, for the metadata of what they made."""
    return [{"name": actor.name, "weights": actor.identity} for actor in actors]


def scripted(reference: str) -> Scripted:
    """Return the demonstrator FILE.py:NAME or MODULE:NAME. Its identity is that of the file's text.

    Raises:
        UnknownNameError: there is no such file, module or function.
    """
    function = attribute(reference, "demonstrator")
    if not callable(function):
        raise UnknownNameError(f"demonstrator '{reference}' is no function of (observation, rng)")
    text = inspect.getsource(inspect.getmodule(function) or function)
    return Scripted(reference.rpartition(":")[2], function, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class _Asked:
    """A behaviour as a command line names it."""

    path: Path
    normalizer: Path | Literal["raw"] | None = None
    noise: float | None = None


def read_behaviours(given: Sequence[Path], planner: Callable[[Path], Behaviour] | None = None) -> list[Behaviour]:
    """Return the behaviour policies that a command line names.

    Args:
        given: paths of actors. After an actor there may be the path of its ``vecnormalize.pkl`` or the word ``raw``,
            and ``noise=DEVIATION``, see ``Noisy``. FILE.py:NAME and MODULE:NAME name functions, see ``Scripted``.
        planner: reads a folder.

    Raises:
        FileNotFoundError: a file does not exist.
        CheckpointError: statistics or noise without an actor before them, or a file that ``read_behaviour`` refuses.
    """
    asked: list[_Asked] = []
    for path in given:
        word = str(path)
        normalizer = "raw" if word == RAW else path if path.suffix == ".pkl" else None
        if word.startswith(NOISE):
            if not asked or asked[-1].noise is not None:
                raise CheckpointError(f"{word} is added to a behaviour's actions: name it after the behaviour, once")
            asked[-1] = replace(asked[-1], noise=_noise(word))
        elif normalizer is None or ":" in path.name:
            asked.append(_Asked(path))
        elif not asked or asked[-1].normalizer is not None:
            raise CheckpointError(
                f"{path} says how an actor's observations are normalised: name it after the actor's .zip, once"
            )
        else:
            asked[-1] = replace(asked[-1], normalizer=normalizer)
    return [_behaviour(each, planner) for each in asked]


def _noise(word: str) -> float:
    try:
        deviation = float(word.removeprefix(NOISE))
    except ValueError:
        deviation = np.nan
    if not 0 < deviation < np.inf:
        raise CheckpointError(f"{word}: expected a standard deviation above 0, in the actions' units, as in noise=0.1")
    return deviation


def _behaviour(asked: _Asked, planner: Callable[[Path], Behaviour] | None) -> Behaviour:
    path = asked.path
    if ":" in path.name:
        made: Behaviour = scripted(str(path))
    elif planner is not None and path.is_dir():
        if asked.normalizer is not None:
            raise CheckpointError(f"{path} holds its own normaliser: leave {asked.normalizer} away")
        made = planner(path)
    else:
        made = read_behaviour(path, asked.normalizer)
    return made if asked.noise is None else Noisy(made, asked.noise)


def read_behaviour(path: Path, normalizer: Path | Literal["raw"] | None = None) -> BehaviourPolicy:
    """Return the behaviour policy in a file. Nothing in the file is executed.

    Args:
        path: an ``.npz`` or a Stable-Baselines3 ``.zip``.
        normalizer: the ``vecnormalize.pkl`` of a ``.zip`` trained with ``VecNormalize``, or "raw" where there was
            none. Without either, a ``.zip`` that may need one is refused.

    Raises:
        FileNotFoundError: a file does not exist.
        CheckpointError: another format, a damaged file, or an actor of a kind that is not read.
    """
    statistics = normalizer if isinstance(normalizer, Path) else None
    for wanted in (path, statistics):
        if wanted is not None:
            if not wanted.exists():
                raise FileNotFoundError(f"there is no behaviour policy's file at {wanted}")
            size_of_file(wanted)
    try:
        if path.suffix not in (".npz", ".zip"):
            raise ValueError("expected an .npz or a Stable-Baselines3 .zip")
        if not zipfile.is_zipfile(path):
            raise ValueError("it was altered or cut short: fetch it again")
        if path.suffix == ".zip":
            return read_sb3(path, statistics, raw=normalizer == RAW)
        if statistics is not None:
            raise ValueError(f"it holds its own normaliser: leave {statistics.name} away")
        return _read_npz(path)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error!s:.{LONGEST}}") from error


def _read_npz(path: Path) -> BehaviourPolicy:
    """Return the policy in arrays w0, b0, w1, ... and a JSON object of settings."""
    with open_archive(path) as archive:
        arrays = {name: archive.read_array(name) for name in array_names(archive)}
    if "metadata" not in arrays:
        raise ValueError("it has no 'metadata', the settings as JSON: it is not a behaviour policy's file")
    settings = parse_object("metadata", arrays.pop("metadata").tobytes())
    hidden = range(sum(re.fullmatch(r"w\d+", name) is not None for name in arrays))
    names = {f"{kind}{part}" for kind in "wb" for part in (*hidden, "_mean", "_logstd")} | {"obs_mean", "obs_var"}
    wanted = {"activation", "squash", "clip_obs", "extra_action_noise_std"}
    missing = sorted((names - arrays.keys()) | (wanted - settings.keys()))
    unknown = sorted(arrays.keys() - names)
    if missing or unknown:
        raise ValueError(f"missing {missing[:8]}, unknown {unknown[:8]}: it is not a behaviour policy's file")
    layers = {part: layer_of(arrays[f"w{part}"], arrays[f"b{part}"]) for part in (*hidden, "_mean", "_logstd")}
    squash = _true_or_false("squash", settings["squash"])
    return BehaviourPolicy(
        name=path.stem,
        hidden=tuple(layers[number] for number in hidden),
        mean=layers["_mean"],
        log_std=layers["_logstd"],
        activation=str(settings["activation"])[:80],
        squash=squash,
        obs_mean=arrays["obs_mean"].astype(np.float64),
        obs_std=deviation(arrays["obs_var"].astype(np.float64), 0.0 if squash else 1e-8),
        clip_obs=np.inf if settings["clip_obs"] is None else number("clip_obs", settings["clip_obs"]),
        extra_noise=number("extra_action_noise_std", settings["extra_action_noise_std"]),
        env_id=settings.get("env_id"),
    )


def _true_or_false(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false for '{name}', got {describe(value)}")
    return value
