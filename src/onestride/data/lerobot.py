"""Episodes in LeRobotDataset folders, v3 and v2: columns of numbers, and cameras' images (``lerobot_cameras.py``).

``meta/info.json`` describes the columns, and ``data/**.parquet`` has the frames, one row per step. The lengths of the
episodes are in ``meta/episodes/**.parquet``, or in ``meta/episodes.jsonl`` (v2). pyarrow is needed, LeRobot is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from onestride.data.arrays import episodes_from_arrays
from onestride.data.boundaries import MEND
from onestride.data.episode import Episode
from onestride.data.lerobot_cameras import PICTURES, FrameTable, open_cameras
from onestride.data.parquet import read_columns
from onestride.data.resizing import Resizing
from onestride.files import read_json, read_lines

#: Where the frames are, by the versions that are read: several episodes to a file, or each in one of its own.
FILES = {"v3.": "chunk-*/file-*.parquet", "v2.": "chunk-*/episode_*.parquet"}
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"
EPISODE, FRAME, TIME = "episode_index", "frame_index", "timestamp"
OTHER_RATE = 0.05  # largest relative error of the timestamps' median interval
HOLE = 1.5  # a longer time between two frames, in control periods, means that frames were dropped


class Length(TypedDict):
    """What is read of a line of ``meta/episodes.jsonl``."""

    episode_index: int
    length: int


def read_lerobot(
    folder: Path,
    *,
    observation: Sequence[str] = (STATE,),
    action: str = "action",
    reward: str = REWARD,
    notes: list[str] | None = None,
    mend: bool = False,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    resize: Resizing | None = None,
) -> Iterator[Episode]:
    """Return every episode of a LeRobotDataset, in order. The frames are read and checked when this is called.

    An episode is terminated if its last frame has ``next.done`` without ``next.truncated``, else truncated. Marks on
    earlier frames are ignored, because the recording went on. Recorders without ``next.truncated`` mark the last frame
    of every episode, whatever ended it; where all episodes have the mark, all are truncated. The format has no
    observation after the last frame: see ``episodes_from_arrays``. An episode without frames is left out. One whose
    timestamps show dropped frames is refused, or cut there with ``mend``.

    Args:
        folder: of the dataset.
        observation: names of columns, which are concatenated.
        action: name of the column of actions.
        reward: name of the column of rewards. Without ``next.reward`` rewards are 0.
        notes: a list to which it is added what was left out, cut or interpreted differently from its marks.
        mend: whether to cut where frames were dropped, instead of refusing the dataset.
        cameras: height and width of each camera's images [px], by its name, see ``column_of``. They are checked when
            this is called, and decoded when an episode's are asked for (``DeferredImages``).
        resize: how images of another size become those; None: they are refused.

    Raises:
        ImportError: pyarrow, or what decodes images, is not installed.
        FileNotFoundError: the folder holds no dataset, or none of its frames.
        ValueError: another version of the format, a column that is missing or has no numbers, missing frames,
            arrays that ``episodes_from_arrays`` refuses, or images that ``open_cameras`` does.
    """
    observation = (observation,) if isinstance(observation, str) else tuple(observation)
    notes = [] if notes is None else notes
    info = read_info(folder)
    features = info["features"]
    rewarded = reward in features or reward != REWARD  # only the default may be missing
    wanted = [*observation, action, *([reward] if rewarded else [])]
    _check_columns(folder, wanted, features)
    marks = [name for name in (DONE, TRUNCATED, TIME) if name in features]

    frames = read_columns(folder, "data", [EPISODE, FRAME, *wanted, *marks], _files(info) or "")  # known
    order = np.lexsort((frames[FRAME][:, 0], frames[EPISODE][:, 0]))
    frames = {name: values[order] for name, values in frames.items()}
    episode = frames[EPISODE][:, 0]
    _check_frames(folder, episode, frames[FRAME][:, 0], _lengths(folder, info), notes)

    last = np.append(episode[1:] != episode[:-1], True)  # (M,), of its episode
    never = np.zeros((len(last), 1), dtype=bool)
    done, truncated = (frames.get(name, never)[:, 0].astype(bool) for name in (DONE, TRUNCATED))
    if TRUNCATED not in frames and done[last].all():
        truncated = last
        notes.append(f"all {int(last.sum())} episodes are marked as done: taken as cut off, whatever ended them")
    if TIME in frames and (rate := rate_of(info)) is not None:
        holes = _holes(folder, frames[TIME][:, 0], last, rate)
        if holes.any():
            found = f"{int(holes.sum())} holes in the timestamps, where frames were dropped"
            if not mend:
                raise ValueError(f"{folder}: {found}; {MEND.format('cut episodes there')}")
            notes.append(f"{found}: cut off there")
            truncated, last = truncated | holes, last | holes
    images = None
    if cameras:
        rate = rate_of(info)
        if rate is None:
            raise ValueError(
                f"{folder}: meta/info.json has no rate (fps is {info.get('fps')!s:.40}), which videos need"
            )
        time = frames[TIME][:, 0].astype(np.float64) if TIME in frames else frames[FRAME][:, 0] / rate
        files = _files(info) or ""
        listed = FILES["v3."] if files == FILES["v3."] else None
        table = FrameTable(folder, features, files, listed, rate, episode, time, order)
        images = open_cameras(table, cameras, resize, notes)
    return episodes_from_arrays(
        np.concatenate([frames[name] for name in observation], axis=1),
        frames[action],
        frames[reward] if rewarded else np.zeros(len(last)),
        terminals=last & done & ~truncated,
        timeouts=last & (truncated | ~done),
        source=str(folder),
        notes=notes,
        images=images,
    )


def states_of(folder: Path) -> tuple[str, ...]:
    """Return the columns of what LeRobot's policies observe in numbers: the robot's state, then the environment's."""
    features = read_info(folder)["features"]
    return (STATE, ENVIRONMENT) if ENVIRONMENT in features else (STATE,)


def read_info(folder: Path) -> dict[str, Any]:
    """Return ``meta/info.json``, with the columns under "features" and the rate under "fps".

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is of another version of the format, or damaged.
    """
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no LeRobotDataset (no meta/info.json)")
    info = read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise ValueError(f"{path} has no features; it was altered or is of something else")
    if _files(info) is None:
        raise ValueError(
            f"{folder} is of LeRobotDataset version {info.get('codebase_version')}, this reader takes "
            f"{' and '.join(f'{version}x' for version in FILES)}; convert it with the script that LeRobot has for this"
        )
    wrong = [name for name, feature in info["features"].items() if not isinstance(feature, dict)]
    if wrong:
        raise ValueError(f"{path}: $.features.{wrong[0]} is no description of a column; it was altered")
    return info


def _files(info: dict[str, Any]) -> str | None:
    """Return the pattern of the frames' files, or None where the version is none that is read."""
    version = str(info.get("codebase_version"))
    return next((files for known, files in FILES.items() if version.startswith(known)), None)


def _lengths(folder: Path, info: dict[str, Any]) -> dict[int, int]:
    """Return how many frames each episode has, by its number."""
    if _files(info) == FILES["v3."]:
        table = read_columns(folder, "meta/episodes", [EPISODE, "length"], FILES["v3."])
        return dict(zip(table[EPISODE][:, 0].tolist(), table["length"][:, 0].tolist(), strict=True))
    lines: list[Length] = read_lines(folder / "meta" / "episodes.jsonl", Length)
    return {line["episode_index"]: line["length"] for line in lines}


def rate_of(info: dict[str, Any]) -> float | None:
    """Return the rate in the contents of ``meta/info.json`` [Hz], or None where there is none."""
    fps = info.get("fps")
    return float(fps) if isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps < 1e6 else None


def _holes(folder: Path, time: np.ndarray, last: np.ndarray, rate: float) -> np.ndarray:
    """Return after which frames others were dropped (M,), by the timestamps (M,) [s].

    Raises:
        ValueError: timestamps go back, or have another rate than the dataset's.
    """
    steps = np.diff(time.astype(np.float64))[~last[:-1]]
    if not len(steps):
        return np.zeros(len(last), bool)
    back = np.flatnonzero(steps <= 0)
    if len(back):
        raise ValueError(f"{folder}: timestamps go back or stand still in {len(back)} places; record it again")
    found = 1 / float(np.median(steps))
    if abs(found / rate - 1) > OTHER_RATE:
        raise ValueError(
            f"{folder}: its timestamps are of {found:.4g} Hz, meta/info.json says {rate:g} Hz; mend what is wrong"
        )
    holes = np.zeros(len(last), bool)
    inside = np.flatnonzero(~last[:-1])
    holes[inside[steps > HOLE / rate]] = True
    return holes


def _check_columns(folder: Path, wanted: list[str], features: dict[str, Any]) -> None:
    pictures = sorted(name for name, feature in features.items() if feature.get("dtype") in PICTURES)
    numbers = sorted(features.keys() - set(pictures))
    bad = [name for name in wanted if name not in numbers]
    if not bad:
        return
    message = f"{folder} has no column of numbers named {', '.join(bad)}; it has {', '.join(numbers) or 'none'}"
    if pictures:
        message += f". Pictures are a camera's, not numbers: {', '.join(pictures)}"
        if not any(name.startswith("observation") for name in numbers):
            message += "; this dataset observes by pictures alone, and a state is needed too"
    raise ValueError(message)


def _check_frames(
    folder: Path, episode: np.ndarray, frame: np.ndarray, lengths: dict[int, int], notes: list[str]
) -> None:
    """Raise ValueError unless every episode has the frames that ``meta/episodes`` lists, each once."""
    numbers, counts = np.unique(episode, return_counts=True)
    found = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    for number in sorted(lengths.keys() | found.keys()):
        if lengths.get(number, 0) != found.get(number, 0):
            raise ValueError(
                f"{folder}, episode {number}: {found.get(number, 0)} frames under data/, "
                f"{lengths.get(number, 0)} by meta/episodes; was it downloaded whole?"
            )
    empty = sum(length == 0 for length in lengths.values())
    if empty:
        notes.append(f"{empty} of {len(lengths)} episodes have no frame: left out")
    expected = np.arange(len(frame)) - np.repeat(counts.cumsum() - counts, counts)
    wrong = np.flatnonzero(frame != expected)
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"{folder}, episode {episode[row]}: frame {expected[row]} is missing or there twice (next is {frame[row]})"
        )
