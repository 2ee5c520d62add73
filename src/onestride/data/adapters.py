"""Episodes of a dataset in any of the formats that are read; the format is detected."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onestride.data.archive import array_names, open_archive
from onestride.data.arrays import episodes_from_arrays
from onestride.data.d4rl import MARKS, NEEDED, OPTIONAL, read_d4rl
from onestride.data.episode import Episode
from onestride.data.lerobot import read_lerobot, states_of
from onestride.data.minari import read_dataset
from onestride.data.resizing import Resizing
from onestride.data.robomimic import LOW_DIM, is_robomimic, read_robomimic
from onestride.errors import on_purpose
from onestride.files import size_of_file

UNDERSTOOD = (
    "a folder with data/metadata.json (Minari), a folder with meta/info.json (LeRobotDataset v2, v3), a file "
    f".hdf5 or .h5 (D4RL, robomimic), or a file .npz with the arrays {', '.join(NEEDED)} and, if there are any, "
    f"{' and '.join(OPTIONAL)}"
)


@dataclass(frozen=True)
class Keys:
    """What is read of files that name what they observed, which are robomimic's and LeRobot's.

    Attributes:
        observation: keys of numbers, which are concatenated, in robomimic's; LeRobot's have names of their own.
        cameras: height and width of each camera's images [px], by its name.
        filter_key: of robomimic's demonstrations; "": all of them.
        resize: how LeRobot's images of another size become those; None: they are refused.
    """

    observation: tuple[str, ...] = LOW_DIM
    cameras: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    filter_key: str = ""
    resize: Resizing | None = None


def read_episodes(
    path: Path, notes: list[str] | None = None, mend: bool = False, keys: Keys | None = None
) -> Iterator[Episode]:
    """Return every episode of a dataset, in order, read by its format's reader.

    Args:
        path: the dataset's file or folder.
        notes: a list to which the reader adds what it left out, cut, or interpreted differently from its marks.
        mend: whether to cut where episodes run into each other without a mark, instead of refusing them.
        keys: what is read of a file that names what it observed.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the format is not known, the path is a pipe or a device, or the format's reader refuses it. The
            message names the path.
        ImportError: the format needs a package that is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; a dataset is {UNDERSTOOD}")
    with _naming(path):
        return _not_empty(path, _reader(path, notes, mend, keys))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the path in a refusal that does not, as of one file among many in it."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error) or not on_purpose(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def _reader(path: Path, notes: list[str] | None, mend: bool, keys: Keys | None) -> Iterator[Episode]:
    if not path.is_dir():
        size_of_file(path)
    if (path / "data" / "metadata.json").is_file():
        return read_dataset(path, notes)
    keys = keys or Keys()
    if (path / "meta" / "info.json").is_file():
        return read_lerobot(
            path, observation=states_of(path), cameras=keys.cameras, resize=keys.resize, notes=notes, mend=mend
        )
    if keys.resize is not None:
        raise ValueError(f"{path} is no LeRobotDataset, whose images alone are resized; leave '{keys.resize}' away")
    if is_robomimic(path):
        cameras, filter_key = tuple(keys.cameras), keys.filter_key
        return read_robomimic(path, observation=keys.observation, cameras=cameras, filter_key=filter_key, notes=notes)
    if keys.filter_key:
        raise ValueError(f"{path} has no filter keys, which are robomimic's; leave '{keys.filter_key}' away")
    if path.is_file() and path.suffix in (".hdf5", ".h5"):
        return read_d4rl(path, low=None, high=None, notes=notes, mend=mend)  # limits are the task's
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path, notes, mend)
    raise ValueError(f"{path} is no dataset that is understood here: {UNDERSTOOD}")


def read_npz(path: Path, notes: list[str] | None = None, mend: bool = False) -> Iterator[Episode]:
    """Return every episode of an .npz file whose arrays are named as the arguments of ``episodes_from_arrays``.

    Args:
        path: the file.
        notes: see ``read_episodes``.
        mend: see ``read_episodes``.

    Raises:
        ValueError: no such file, an array that is missing or pickled, or one that ``episodes_from_arrays`` refuses.
    """
    size_of_file(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not whole, or not what np.savez writes; write it again")
    try:
        with open_archive(path) as archive:
            present = array_names(archive)
            missing = [key for key in NEEDED if key not in present]
            arrays: dict[str, Any] = {
                key: archive.read_array(key) for key in (*NEEDED, *OPTIONAL, *MARKS) if key in present
            }
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error!s:.400}); write it with np.savez, arrays of numbers only"
        ) from error
    if missing:
        zeros = ". Where nothing was rewarded, write zeros" * (missing == ["rewards"])
        raise ValueError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(present) or 'nothing'}. A dataset of arrays needs "
            f"{', '.join(NEEDED)}{zeros}"
        )
    return episodes_from_arrays(**arrays, source=str(path), notes=notes, mend=mend)


def _not_empty(path: Path, episodes: Iterator[Episode]) -> Iterator[Episode]:
    """Yield the episodes and raise ValueError where there is none."""
    empty = True
    with _naming(path):
        for episode in episodes:
            empty = False
            yield episode
    if empty:
        raise ValueError(
            f"{path}: not one episode is left. Each has a single step, of which nobody knows what its action led to "
            "(there are no next_observations), or there is none at all; do its end marks (timeouts) belong there?"
        )
