"""Arrays in external HDF5 files: their claims are compared with what is stored before any is read."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from onestride.data.claims import check_claim
from onestride.files import size_of_file

LINKS = 8  # longest chain of links that is followed
NUMBERS = "fiub"  # kinds of dtype: floats, integers, bools
#: Reason and remedy where the file is whole but the system does not open it now.
LOCKED = (
    "another program has it open for writing. Wait until it is closed; where you know that nobody writes, or its disk "
    "keeps no locks, set HDF5_USE_FILE_LOCKING=FALSE"
)
CLOSED = {
    errno.EAGAIN: LOCKED,
    errno.ENOLCK: LOCKED,
    errno.ENOSYS: LOCKED,
    errno.EOPNOTSUPP: LOCKED,
    errno.EACCES: "reading it is not permitted to you: ask its owner, or copy it",
    errno.EMFILE: "this process has too many files open: close some",
}


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        CheckpointError: no regular file.
        ValueError: no HDF5, a damaged file, or one that is open for writing elsewhere. The message names the file.
    """
    if size_of_file(path) == 0:
        raise ValueError(f"{path} is empty (0 bytes); was it written or downloaded whole?")
    try:
        with path.open("rb") as f:
            start = f.read(16)
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not an HDF5 file (it begins with {start!r}); was it downloaded whole?")
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: {_reason(error)}") from error


def read_array(path: Path, file: h5py.File, key: str) -> np.ndarray:
    """Return the array of numbers at ``key``.

    Args:
        path: of the file, for messages.
        file: the open file.
        key: of the array.

    Raises:
        ValueError: no such array, or one that is not completely stored in the file. The message names file and key.
    """
    return _read(path, file, key, NUMBERS)


def read_names(path: Path, file: h5py.File, key: str) -> list[str]:
    """Return the names in an array of text of fixed length at ``key``; see ``read_array``."""
    return [name.decode(errors="replace") for name in _read(path, file, key, "S").ravel().tolist()]


def _read(path: Path, file: h5py.File, key: str, kinds: str) -> np.ndarray:
    found = _follow(f"{path}: {key}", file, key, LINKS)
    try:
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"{path}: {key} is not an array but a group; this reader takes one array per key")
        try:
            _check_stored(found, size_of_file(Path(found.file.filename)), kinds)
        except ValueError as error:
            raise ValueError(f"{path}: {key} {error}") from error
        return found[()]
    finally:
        if found.file != file:
            found.file.close()


def _follow(what: str, start: h5py.Group, name: str, left: int) -> Any:
    """Return the object at ``name``. Links are followed here, because HDF5 would open any file, even a pipe."""
    found: Any = start
    for part in filter(None, name.split("/")):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) and part in set(found.keys()) else None
        if link is None:
            raise ValueError(f"{what} stands at {name} of {start.file.filename}, which is not there")
        if left == 0:
            raise ValueError(f"{what} is a link to a link, more than {LINKS} times")
        if isinstance(link, h5py.ExternalLink):
            found = _follow(what, _linked(what, Path(found.file.filename).parent, link), link.path, left - 1)
        elif isinstance(link, h5py.SoftLink):
            found = _follow(what, found.file if link.path.startswith("/") else found, link.path, left - 1)
        else:
            found = found[part]
    return found


def _linked(what: str, folder: Path, link: h5py.ExternalLink) -> h5py.File:
    """Return the file that a link names, which must be in the folder of the file with the link."""
    other = folder / link.filename
    if not other.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{what} stands in {link.filename}, out of the folder: not read; copy it into {folder}")
    if not other.exists():
        raise ValueError(f"{what} stands in {link.filename}, which is not there; fetch it too, into {folder}")
    size_of_file(other)
    try:
        return h5py.File(other, "r")
    except OSError as error:
        raise ValueError(f"{what} stands in {other}, which cannot be read: {_reason(error)}") from error


def _check_stored(found: h5py.Dataset, size: int, kinds: str) -> None:
    """Refuse an array that is not stored completely, or that is larger than a file of ``size`` bytes can hold."""
    if found.is_virtual:
        raise ValueError(
            "is virtual: its numbers stand in other files, and HDF5 fills in what is not there; write them into one"
        )
    if found.external:
        raise ValueError(
            f"stands in other files ({found.external[0][0]}), which are not read. Write them into one file"
        )
    try:
        dtype = found.dtype
    except TypeError as error:
        raise ValueError(f"holds a type that NumPy does not have ({error!s:.120}), expected numbers") from error
    if dtype.kind not in kinds:
        expected = "numbers" if kinds == NUMBERS else "names of fixed length"
        raise ValueError(f"holds {dtype!s:.80}, expected {expected}")
    if found.shape is None:
        raise ValueError("has no shape and no numbers")
    claimed = math.prod(found.shape) * dtype.itemsize
    check_claim(f"of shape {found.shape}", claimed, size)
    stored = found.id.get_storage_size()
    if stored > size:
        raise ValueError(f"claims {stored} stored bytes in a file of {size} bytes: it was altered or cut short")
    if found.chunks is None:
        if stored != claimed:
            raise ValueError(f"of shape {found.shape} was never written ({stored} of {claimed} bytes are stored)")
        return
    check_claim(f"in chunks of {found.chunks}", math.prod(found.chunks) * dtype.itemsize, size)
    expected = math.prod(-(-n // chunk) for n, chunk in zip(found.shape, found.chunks, strict=True))
    written = found.id.get_num_chunks()
    if written < expected:
        raise ValueError(
            f"of shape {found.shape} was not written whole: {expected - written} of {expected} chunks are missing, and "
            "HDF5 fills in what is not there. Cut it to what was recorded"
        )
    settings = found.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise ValueError(
                f"is compressed by {name!r:.80} (HDF5 filter {code}), not installed here: write it with gzip"
            )


def _reason(error: Exception) -> str:
    """Return the reason, what to do about it, and HDF5's own message."""
    said, code = f"{error!s:.300}", getattr(error, "errno", None)
    if code in CLOSED:
        return f"{CLOSED[code]} (it says: {said})"
    if "already open for" in said:  # the file's own mark, left by a writer that was killed
        return f"it is marked as open for writing: wait for the writer; was it killed, run h5clear -s (it says: {said})"
    return f"it was altered or cut short: download it again (it says: {said})"
