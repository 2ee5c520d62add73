"""Images to the size that a task's camera has, in a way that is said, because a robot's have to be made so too."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from onestride.errors import naming_extras

#: "stretch": height and width each to the wanted ones. "crop": the largest part in the middle that has the wanted
#: ratio of height to width. Both by Pillow's bilinear filter, which averages where an image gets smaller.
Resizing = Literal["stretch", "crop"]


def check_resizing(asked: str | None) -> Resizing | None:
    """Return the way to resize.

    Raises:
        ValueError: it is none that is known.
    """
    if asked is not None and asked not in get_args(Resizing):
        raise ValueError(f"images are resized by {' or '.join(get_args(Resizing))}, got {asked!r:.40}")
    return asked  # type: ignore[return-value]


def resized(image: np.ndarray, size: tuple[int, int], how: Resizing | None) -> np.ndarray:
    """Return an image, uint8 (h, w, 3), in a size (height, width); as it is where it has that size already."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    assert how is not None
    with naming_extras():
        from PIL import Image

    if how == "crop":
        scale = min(height / size[0], width / size[1])
        kept = max(round(scale * size[0]), 1), max(round(scale * size[1]), 1)
        top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
        image = image[top : top + kept[0], left : left + kept[1]]
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
