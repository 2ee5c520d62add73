"""Images of an episode that are decoded when they are asked for, so that a data set's are never in memory together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class DeferredImages:
    """An episode's images of one camera, uint8 (T+1, height, width, 3), which are not there yet.

    ``np.asarray`` decodes them, each time anew: whoever needs them twice keeps the array.

    Args:
        decode: makes the images.
        shape: of all of them.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, decode: Callable[[], np.ndarray], shape: tuple[int, int, int, int]) -> None:
        self.decode, self.shape = decode, shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Their size once they are decoded [bytes]."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, which: Any) -> np.ndarray:
        return self.decode()[which]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Decode the images."""
        del copy  # they are always made anew
        return self.decode() if dtype is None else self.decode().astype(dtype, copy=False)
