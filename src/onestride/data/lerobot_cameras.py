"""Cameras of a LeRobotDataset: which of its columns they are, and their images, decoded when they are asked for.

A column of type "image" has a picture's bytes in each row of the frames' files. One of type "video" is in mp4 files:
``videos/<column>/chunk-*/file-*.mp4`` with several episodes each, whose first times are in ``meta/episodes`` (v3), or
``videos/chunk-*/<column>/episode_<number>.mp4`` (v2).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.deferred import DeferredImages
from onestride.data.parquet import PicturesColumn, read_columns
from onestride.data.resizing import Resizing, resized
from onestride.data.video import Video
from onestride.errors import naming_extras

PICTURES = ("image", "video")
PREFIXES = ("", "observation.images.", "observation.image.", "observation.")
COLOURS = 3
LARGEST_SIDE = 8192  # [px]


@dataclass(frozen=True)
class FrameTable:
    """Where the frames of a dataset are, one row each, in the order of the episodes.

    Attributes:
        folder: of the dataset.
        features: its columns, as meta/info.json describes them.
        frames: pattern of the frames' files under ``data``.
        episodes: pattern of the files under ``meta/episodes`` (v3), or None (v2: videos have one episode each).
        rate: frames per second.
        episode: number of the episode (M,).
        time: since the episode's first frame (M,) [s].
        stored: number of the row among all that the frames' files have, in the order of their names (M,).
    """

    folder: Path
    features: Mapping[str, Any]
    frames: str
    episodes: str | None
    rate: float
    episode: np.ndarray
    time: np.ndarray
    stored: np.ndarray


#: Gives the images of frames by their rows (T,), each with where in these rows it belongs, in any order.
Reader = Callable[[np.ndarray], Iterable[tuple[Any, np.ndarray]]]


def column_of(camera: str, cameras: Mapping[str, Any], columns: list[str], where: str) -> str:
    """Return which of a dataset's or a policy's columns of images is a task's camera.

    That is the column of its name, with or without LeRobot's ``observation.images.`` before it. Where there is one
    camera and one column they are the same, whatever they are called.

    Raises:
        ValueError: no column is.
    """
    for prefix in PREFIXES:
        if f"{prefix}{camera}" in columns:
            return f"{prefix}{camera}"
    if len(cameras) == len(columns) == 1:
        return columns[0]
    raise ValueError(
        f"{where} has no images of camera '{camera}'; it has {', '.join(columns)[:300] or 'none'}. Call the task's "
        "camera as there, without 'observation.images.'"
    )


def open_cameras(
    table: FrameTable, cameras: Mapping[str, tuple[int, int]], resize: Resizing | None, notes: list[str]
) -> Callable[[np.ndarray], dict[str, DeferredImages]]:
    """Return a function that gives every camera's images of frames by their rows (T,), to be decoded later.

    Videos are looked through for their frames' times, and images' sizes are compared, when this is called.

    Args:
        table: where frames are.
        cameras: height and width of each camera's images [px], by its name.
        resize: how images of another size become those.
        notes: a list to which it is added what is read and resized.

    Raises:
        ImportError: PyAV, Pillow or pyarrow is not installed.
        ValueError: a camera that is not there, of another size or rate, or without an image for some frame.
    """
    pictures = [name for name, feature in table.features.items() if feature.get("dtype") in PICTURES]
    readers: dict[str, tuple[Reader, tuple[int, int]]] = {}
    for camera, size in cameras.items():
        column = column_of(camera, cameras, pictures, str(table.folder))
        if not re.fullmatch(r"\w[\w.-]*", column):
            raise ValueError(f"{table.folder}: '{column:.80}' is no name of a column; meta/info.json was altered")
        found = _size(table.folder, column, table.features[column])
        if found != size and resize is None:
            raise ValueError(
                f"{table.folder}: {column} is {found[0]} x {found[1]} px, camera '{camera}' of the task is "
                f"{size[0]} x {size[1]}; give --resize crop (the middle, of the task's ratio) or --resize stretch, and "
                "make the robot's images so too"
            )
        kind = _stored_pictures if table.features[column]["dtype"] == "image" else _videos
        readers[camera] = kind(table, column, found), size
        changed = "" if found == size else f", {found[0]} x {found[1]} px made {size[0]} x {size[1]} by '{resize}'"
        notes.append(f"camera '{camera}' is {column}{changed}")

    def images(rows: np.ndarray) -> dict[str, DeferredImages]:
        return {
            name: DeferredImages(partial(_decoded, read, rows, size, resize), (len(rows), *size, COLOURS))
            for name, (read, size) in readers.items()
        }

    return images


def _decoded(read: Reader, rows: np.ndarray, size: tuple[int, int], resize: Resizing | None) -> np.ndarray:
    """Images (T, *size, 3) of rows. Each is resized before the next one is decoded."""
    made = np.empty((len(rows), *size, COLOURS), np.uint8)
    for places, image in read(rows):
        made[places] = resized(image, size, resize)
    return made


def _size(folder: Path, column: str, feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width [px] that meta/info.json says, in whichever order it has them."""
    shape, names = feature.get("shape"), feature.get("names")
    about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    numbers = shape if isinstance(shape, list) else []
    whole = len(numbers) == 3 and all(type(n) is int and 1 <= n <= LARGEST_SIDE for n in numbers)
    if not whole or about.get("is_depth_map") or about.get("video.is_depth_map"):
        what = "of depths" if whole else f"of shape {shape!s:.60}"
        raise ValueError(f"{folder}: {column} has images {what}; cameras have three colours, (height, width, 3)")
    last = numbers[2] == COLOURS
    if isinstance(names, list) and len(names) == 3:
        last = str(names[2]).startswith("channel")
    height, width, colours = numbers if last else (*numbers[1:], numbers[0])
    if colours != COLOURS:
        raise ValueError(f"{folder}: {column} has shape {shape}, and cameras have three colours, (height, width, 3)")
    return height, width


# ---------------------------------------------------------------- images in the rows


def _stored_pictures(table: FrameTable, column: str, size: tuple[int, int]) -> Reader:
    """Images whose bytes are in the frames' files. The sizes of all are compared by their headers."""
    with naming_extras():
        from PIL import Image, UnidentifiedImageError

    stored = PicturesColumn(table.folder, "data", column, table.frames)
    if stored.rows != len(table.stored):
        raise ValueError(f"{table.folder}: {column} has {stored.rows} rows, expected {len(table.stored)}")

    def opened(row: int, content: bytes) -> Image.Image:
        where = f"{table.folder}, episode {table.episode[row]}: {column} at {table.time[row]:.3f} s"
        try:
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{where} is no PNG or JPEG ({len(content)} bytes); it was altered") from error
        if picture.size != size[::-1]:
            raise ValueError(
                f"{where} is {picture.height} x {picture.width} px, meta/info.json says {size[0]} x {size[1]}"
            )
        return picture

    def read(rows: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        for place, row in enumerate(rows.tolist()):
            picture = opened(row, stored.take(int(table.stored[row])))
            try:
                yield [place], np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise ValueError(
                    f"{table.folder}, episode {table.episode[row]}: {column} at {table.time[row]:.3f} s cannot be "
                    f"decoded ({error!s:.80}); it is damaged"
                ) from error

    for row, number in enumerate(table.stored.tolist()):
        opened(row, stored.take(number)).close()
    return read


# ---------------------------------------------------------------- videos


def _videos(table: FrameTable, column: str, size: tuple[int, int]) -> Reader:
    """Images in videos, which have a frame for every row."""
    paths, begins = _files(table, column)
    videos: dict[Path, Video] = {}
    for number in np.unique(table.episode).tolist():
        path = paths[number]
        if path not in videos:
            videos[path] = video = Video(path)
            if video.size != size:
                raise ValueError(
                    f"{path} is {video.size[0]} x {video.size[1]} px, meta/info.json says {size[0]} x {size[1]}; it is "
                    "not of this dataset"
                )
        times = table.time[table.episode == number] + begins[number]
        videos[path].check_times(times, table.rate, f"episode {number}")

    def read(rows: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        number = int(table.episode[rows[0]])
        return videos[paths[number]].frames(table.time[rows] + begins[number])

    return read


def _files(table: FrameTable, column: str) -> tuple[dict[int, Path], dict[int, float]]:
    """Which file each episode's video is in, and when it begins there [s]."""
    folder, numbers = table.folder, np.unique(table.episode).tolist()
    paths: dict[int, Path] = {}
    begins = dict.fromkeys(numbers, 0.0)
    if table.episodes is None:
        for number in numbers:
            there = sorted(folder.glob(f"videos/chunk-*/{column}/episode_{number:06d}.mp4"))
            paths[number] = there[0] if there else folder / f"videos/chunk-*/{column}/episode_{number:06d}.mp4"
    else:
        said = [f"videos/{column}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        found = read_columns(folder, "meta/episodes", ["episode_index", *said], table.episodes)
        for number, chunk, file, begin in zip(*(values[:, 0].tolist() for values in found.values()), strict=True):
            if number in begins:
                paths[number] = folder / f"videos/{column}/chunk-{int(chunk):03d}/file-{int(file):03d}.mp4"
                begins[number] = float(begin)
    for number in numbers:
        if number not in paths or not paths[number].is_file():
            raise ValueError(
                f"{folder}, episode {number}: there is no video {paths.get(number, column)}; was it downloaded whole?"
            )
    return paths, begins
