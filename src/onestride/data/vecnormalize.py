"""Statistics by which Stable-Baselines3 normalises observations: a pickle from which only numbers are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.gaussian_actor import deviation, number
from onestride.data.pickled import Made, array_of, describe, read_pickle
from onestride.files import size_of_file

LARGEST = 16 * 2**20  # largest file of statistics, which take a few thousand bytes [bytes]
HOMES = frozenset({"stable_baselines3", "gymnasium", "gym", "numpy", "collections"})

Statistics = tuple[np.ndarray, np.ndarray, float]  # mean (O,), deviation (O,), clip


def read_vecnormalize(path: Path) -> Statistics | None:
    """Return mean (O,), deviation (O,) and clip of a ``VecNormalize``; None where observations are not normalised.

    Raises:
        CheckpointError: no regular file.
        ValueError: no ``VecNormalize``, or a pickle that names more than a normaliser needs.
    """
    size = size_of_file(path)
    if size > LARGEST:
        raise ValueError(f"{path.name} is refused: {size} bytes, expected {LARGEST} at most of a VecNormalize")
    try:
        return _statistics(read_pickle(path.read_bytes(), of_numbers))
    except ValueError as error:
        raise ValueError(f"{path.name} is refused, expected a VecNormalize of vectors: {error}") from error


def of_numbers(kind: str) -> bool:
    """Return True if the pickle of a normaliser or an array may name this, and raise ValueError if not."""
    if kind.partition(".")[0] not in HOMES:
        raise ValueError(f"it names {kind:.80}, which no normaliser needs")
    return True


def _statistics(made: Any) -> Statistics | None:
    if not isinstance(made, Made) or not made.kind.endswith(".VecNormalize") or not isinstance(made.state, dict):
        raise ValueError(f"it holds {describe(made)}")
    normalises = made.state.get("norm_obs", True)
    if not isinstance(normalises, bool):
        raise ValueError(f"expected true or false for 'norm_obs', got {describe(normalises)}")
    if not normalises:
        return None
    rms = made.state.get("obs_rms")
    if not isinstance(rms, Made) or not isinstance(rms.state, dict):
        raise ValueError(f"its obs_rms is {describe(rms)}: only observations that are one vector are read")
    epsilon, clip = (number(name, made.state.get(name)) for name in ("epsilon", "clip_obs"))
    mean, variance = (_vector(rms.state.get(name)) for name in ("mean", "var"))
    if not (mean.shape == variance.shape and np.isfinite(mean).all()):
        raise ValueError(f"mean {mean.shape} and variance {variance.shape} are not of one vector of finite numbers")
    return mean, deviation(variance, epsilon), clip


def _vector(value: Any) -> np.ndarray:
    found = array_of(value)
    if found.ndim != 1:
        raise ValueError(f"it holds an array {found.shape}, expected a vector")
    return found.astype(np.float64)
