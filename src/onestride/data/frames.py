"""Cameras' images of a data set: one array per camera beside its episodes, which is read in place.

``<data set>/images/<camera>.npy`` is uint8 (M, height, width, 3): an image for each of the M observations of all
episodes, in their order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from onestride.data.episode import Episode
from onestride.robot.control_spec import ControlSpec
from onestride.robot.fields import split_images

IMAGES = "images"


class FrameWriter:
    """Writes images of episodes that come one after another; the arrays are whole when it is closed.

    Args:
        folder: of the arrays, which is made when there is an image.

    Raises:
        ValueError: an episode has other cameras than the first, or images of another size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._rows = self._episodes = 0

    def add(self, episode: Episode) -> None:
        """Append an episode's images."""
        shapes = {name: images.shape[1:] for name, images in episode.images.items()}
        if not self._episodes:
            self._begin(shapes)
        if shapes != self._shapes:
            raise ValueError(f"episode {self._episodes} has images {shapes}, those before it {self._shapes}")
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(episode.images[name]).data)
        self._rows += len(episode.observations)
        self._episodes += 1

    def _begin(self, shapes: dict[str, tuple[int, ...]]) -> None:
        bad = [name for name in shapes if not name.isidentifier()]
        if bad:
            raise ValueError(f"camera '{bad[0]}' cannot be a file's name; call it by letters, digits and '_'")
        self._shapes = shapes
        if shapes:
            self.folder.mkdir(parents=True)
        for name in shapes:
            self._files[name] = (self.folder / f"{name}.npy").open("wb")
            self._head(name, 0)

    def _head(self, name: str, rows: int) -> None:
        """Write the array's header. NumPy leaves space in it, so that any number of rows is as long."""
        said = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shapes[name])}
        np.lib.format.write_array_header_1_0(self._files[name], said)

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        """Write how many there are, and close the files."""
        for name, file in self._files.items():
            with file:
                if kind is None:
                    file.flush()
                    file.seek(0)
                    self._head(name, self._rows)
                    file.flush()
                    os.fsync(file.fileno())


def open_frames(dataset: Path, rows: int) -> dict[str, np.ndarray]:
    """Return a data set's images by camera, as arrays in its files (rows, height, width, 3); none where it has none.

    Raises:
        ValueError: a file holds something else, or another number of images.
    """
    found: dict[str, np.ndarray] = {}
    for path in sorted((dataset / IMAGES).glob("*.npy")):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read ({error!s:.120}); the dataset was altered") from error
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or len(array) != rows:
            raise ValueError(
                f"{path} holds {array.dtype} {array.shape}, expected uint8 ({rows}, height, width, 3), an image for "
                "each observation; the dataset was altered, or is not here whole"
            )
        found[path.stem] = array
    return found


def with_images(episode: Episode, spec: ControlSpec) -> Episode:
    """Return an episode whose observations are packed (T+1, step_dim) with its images apart, as uint8.

    Where there are no cameras it is returned as it is.
    """
    if not spec.cameras:
        return episode
    numbers, images = split_images(spec.fields, episode.observations)
    return replace(
        episode, observations=numbers, images={name: each[:, 0].astype(np.uint8) for name, each in images.items()}
    )


class Frames:
    """One camera's images of several episodes, which stay where they are; taken by the number of the observation.

    Args:
        parts: of each episode, uint8 (T+1, height, width, 3).
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.firsts = np.cumsum([0, *(len(part) for part in self.parts)])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the images (..., height, width, 3) of observations, whose numbers count through the episodes."""
        flat = rows.ravel()
        part = np.searchsorted(self.firsts, flat, side="right") - 1
        found = np.empty((len(flat), *self.parts[0].shape[1:]), np.uint8)
        for i, (which, row) in enumerate(zip(part.tolist(), (flat - self.firsts[part]).tolist(), strict=True)):
            found[i] = self.parts[which][row]
        return found.reshape(*rows.shape, *found.shape[1:])


def frames_of(episodes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Frames]:
    """Return every camera's images of several episodes, which all have the same cameras."""
    names = episodes[0].keys() if episodes else ()
    return {name: Frames([images[name] for images in episodes]) for name in names}
