"""Weights and images from a stream of random numbers, made alike by ``make_image_fixtures.py`` and by the tests.

A ResNet-18 has 45 MB of weights. What stands in the repository is which there are (shapes.json) and what LeRobot makes
of them (golden.safetensors); the numbers themselves are drawn again. This file needs NumPy alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

MADE = ("num_batches_tracked", "pos_grid")  # which are no weights


def drawn(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Weights by their names: features stay of order 1 through any number of layers."""
    made = {}
    for name, shape in shapes.items():
        last = name.rpartition(".")[2]
        if last in MADE:
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        value = rng.standard_normal(shape, np.float32)
        if last == "running_var":
            value = 0.5 + value**2
        elif len(shape) > 1:
            value *= np.sqrt(2 / np.prod(shape[1:]))
        else:  # a bias, a mean, or the factor of a normalisation
            value = 0.1 * value + (1 if last == "weight" else 0)
        made[name] = value.astype(np.float32)
    return made


def images(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Images, uint8 (count, height, width, 3): smooth, so that their keypoints are somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = rng.uniform(2, 20, (count, 3, 2))
    phase = waves[..., :1, None] * y + waves[..., 1:, None] * x + rng.uniform(0, 6, (count, 3, 1, 1))
    noise = rng.integers(-20, 21, (count, 3, *size))
    return np.moveaxis((127 + 100 * np.sin(phase) + noise).clip(0, 255).astype(np.uint8), 1, -1)
