"""Episodes in LeRobotDataset folders, v3 and v2. Columns of numbers are read, pictures are not.

``meta/info.json`` describes the columns, and ``data/**.parquet`` has the frames, one row per step. The lengths of the
episodes are in ``meta/episodes/**.parquet``, or in ``meta/episodes.jsonl`` (v2). pyarrow is needed, LeRobot is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from onestride.data.arrays import episodes_from_arrays
from onestride.data.boundaries import MEND
from onestride.data.claims import check_claim
from onestride.data.episode import Episode
from onestride.errors import naming_extras
from onestride.files import read_json, read_lines, size_of_file

#: Where the frames are, by the versions that are read: several episodes to a file, or each in one of its own.
FILES = {"v3.": "chunk-*/file-*.parquet", "v2.": "chunk-*/episode_*.parquet"}
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"
EPISODE, FRAME, TIME = "episode_index", "frame_index", "timestamp"
OTHER_RATE = 0.05  # largest relative error of the timestamps' median interval
HOLE = 1.5  # a longer time between two frames, in control periods, means that frames were dropped
PICTURES = ("image", "video")
LARGEST_NUMBER = 8  # [bytes]


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

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: the folder holds no dataset, or none of its frames.
        ValueError: another version of the format, a column that is missing or has no numbers, missing frames, or
            arrays that ``episodes_from_arrays`` refuses.
    """
    observation = (observation,) if isinstance(observation, str) else tuple(observation)
    notes = [] if notes is None else notes
    info = read_info(folder)
    features = info["features"]
    rewarded = reward in features or reward != REWARD  # only the default may be missing
    wanted = [*observation, action, *([reward] if rewarded else [])]
    _check_columns(folder, wanted, features)
    marks = [name for name in (DONE, TRUNCATED, TIME) if name in features]

    frames = _read_columns(folder, "data", [EPISODE, FRAME, *wanted, *marks], _files(info))
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
    return episodes_from_arrays(
        np.concatenate([frames[name] for name in observation], axis=1),
        frames[action],
        frames[reward] if rewarded else np.zeros(len(last)),
        terminals=last & done & ~truncated,
        timeouts=last & (truncated | ~done),
        source=str(folder),
        notes=notes,
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
        table = _read_columns(folder, "meta/episodes", [EPISODE, "length"])
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
        message += f". Pictures are not read: {', '.join(pictures)}"
        if not any(name.startswith("observation") for name in numbers):
            message += "; this dataset observes by pictures alone, so it cannot be used here"
    raise ValueError(message)


def _read_columns(
    folder: Path, part: str, columns: list[str], files: str | None = FILES["v3."]
) -> dict[str, np.ndarray]:
    """Return the columns of all ``files`` in ``folder/part``, concatenated: name -> (M, width)."""
    with naming_extras():
        import pyarrow as pa
        from pyarrow import parquet

    assert files is not None
    paths = sorted((folder / part).glob(files))
    if not paths:
        raise FileNotFoundError(f"{folder} has no {part}/{files}; was it downloaded whole?")
    tables = []
    for path in paths:
        try:
            size = size_of_file(path)
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                missing = [name for name in columns if name not in names]
                if missing:
                    raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
                _check_claims(path, file.metadata, columns, size)
                table = file.read(columns=columns)
        except (pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split())[:300]  # Arrow's reasons have several lines
            raise ValueError(f"{path} cannot be read ({said}); it was altered or cut short") from error
        tables.append({name: _matrix(f"{path}, column {name}", table.column(name)) for name in columns})
    for name in columns:
        widths = {table[name].shape[1]: path for table, path in zip(tables, paths, strict=True)}
        if len(widths) > 1:
            raise ValueError(f"column {name} is {' but '.join(f'{w} wide in {path}' for w, path in widths.items())}")
    return {name: np.concatenate([table[name] for table in tables]) for name in columns}


def _check_claims(path: Path, metadata: Any, columns: list[str], size: int) -> None:
    """Refuse columns that claim more than a file of ``size`` bytes can hold. Repeated numbers take almost no space."""
    stored = claimed = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in columns):
                stored += max(column.total_compressed_size, 0)
                numbers = max(column.num_values, group.num_rows, 0)
                claimed += max(column.total_uncompressed_size, numbers * LARGEST_NUMBER)
    if stored > size:
        raise ValueError(f"{path} claims {stored} stored bytes in a file of {size} bytes; it was altered or cut short")
    check_claim(f"{path}", claimed, size)


def _matrix(where: str, column: Any) -> np.ndarray:
    """Return a column of numbers, or of lists of numbers of one length, as (rows, width)."""
    import pyarrow as pa
    from pyarrow import types

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    rows, width, empty = len(array), 1, array.null_count
    if types.is_fixed_size_list(array.type):
        width, array = array.type.list_size, array.flatten()
    elif types.is_list(array.type) or types.is_large_list(array.type):
        widths = array.drop_null().value_lengths().unique().to_pylist()
        if len(widths) > 1:
            raise ValueError(f"{where} holds lists of lengths {widths[:5]}, expected one length")
        width, array = widths[0] if widths else 0, array.flatten()
    if not (types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type)):
        raise ValueError(f"{where} holds {column.type}, expected numbers or lists of numbers")
    if empty or array.null_count:
        raise ValueError(f"{where} has {empty or array.null_count} empty entries, expected none")
    return array.to_numpy(zero_copy_only=False).reshape(rows, width)


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
