"""Ranges of the sizes that a checkpoint's config may ask for: loops and tables end before shapes are compared."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

#: Units of a layer.
Width = Annotated[int, Meta(ge=1, le=1 << 16)]
#: Layers, blocks, members of an ensemble.
Depth = Annotated[int, Meta(ge=1, le=256)]
#: Levels of noise.
Steps = Annotated[int, Meta(ge=1, le=100_000)]
#: Factors of a U-Net's width, one per level.
Multipliers = Annotated[tuple[Depth, ...], Meta(min_length=1, max_length=12)]
