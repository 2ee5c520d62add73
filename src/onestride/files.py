"""Files that are whole or not there, and folders that one process at a time works on."""

from __future__ import annotations

import codecs
import errno
import glob
import json
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec
from filelock import FileLock, Timeout
from safetensors import SafetensorError

TEMPORARY = ".tmp"  # how names of what is being written end; they begin with a dot
ABANDONED = 600.0  # [s] without a byte written: nobody writes this temporary file any more
LARGEST_JSON = 64 << 20  # [bytes], far above the largest that is written
LEFT = 10.0  # the same in a folder that is held: whoever holds it writes there, but for pictures

T = TypeVar("T")


class CheckpointError(ValueError):
    """A checkpoint, shard or state file that cannot be used; the message says what to do."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then put it in place in one step.

    What was there before stays until the new file is complete and on disk. The temporary file has a folder of its own,
    since libraries put others beside it. What a writer that was killed outright left of this file is cleared away.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(path.parent, path.name, ABANDONED)
    folder = None
    try:
        folder = temporary_folder(path)
        temporary = folder / path.name
        temporary.touch()
        write(temporary)
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror}; what was there is unchanged. Free some space, then run the "
            "same command again",
        ) from error
    except SafetensorError as error:  # how the writer reports a full disk
        raise OSError(f"could not write {path}: {error}; what was there is unchanged. Is the disk full?") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_folder(path: Path) -> Path:
    """A new one beside ``path``, for what will be there."""
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY))


def clear_abandoned(parent: Path, name: str = "*", age: float = ABANDONED) -> None:
    """Remove what killed writers of ``name`` (*: of anything) left in ``parent``, where nothing was written to it for
    ``age`` [s]."""
    pattern = f".*{TEMPORARY}" if name == "*" else f".{glob.escape(name)}.*{TEMPORARY}"
    for left in parent.glob(pattern):
        with suppress(OSError):  # somebody else was quicker
            touched = max(p.stat().st_mtime for p in (left, *left.glob("*")))
            if time.time() - touched > age:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def together(paths: Iterable[Path]) -> Iterator[None]:
    """New files that the block writes: all of them, or none where it fails."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def room_for(folder: Path, size: int) -> None:
    """Whether so many bytes fit on the disk of ``folder``, for writers who cannot bear that they do not.

    Raises:
        OSError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"{folder} takes {size / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free there. Free some space, then run "
            "the same command again",
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder`` until the block ends, by a lock beside it that the system takes back when a process is killed.

    Whoever goes on where another left off must know that the other has left; what it left half-written is cleared.

    Raises:
        CheckpointError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"another process is at work on {folder}. Wait for it, or stop it and run the same command again: it goes "
            "on from what is finished"
        ) from error
    try:
        clear_abandoned(folder, age=LEFT)
        yield
    finally:
        lock.release()


def size_of_file(path: Path) -> int:
    """Return the size [bytes] of a regular file, links followed.

    Asked before a file from outside is opened: opening a pipe waits for whoever writes to it, and a device never ends.

    Raises:
        CheckpointError: it is missing, or something else than a regular file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
        kind = next((name for is_kind, name in kinds.items() if is_kind(status.st_mode)), "a device")
        raise CheckpointError(f"{path} is {kind}, expected a file")
    return status.st_size


def writable(folder: Path) -> None:
    """Whether files can be made there, asked before work that ends with one; makes the folder.

    Raises:
        OSError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable.", suffix=TEMPORARY):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{folder} cannot be written ({error.strerror}); name another place") from error


def vacant(path: Path) -> None:
    """Whether a file can be made there and none is, asked before work that ends with it.

    Raises:
        FileExistsError: one is there; OSError: its folder cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; name another file, or remove it first")
    writable(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, in one step."""
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n"))


@overload
def read_json(path: Path) -> Any: ...
@overload
def read_json(path: Path, type: type[T]) -> T: ...
def read_json(path: Path, type: Any = Any) -> Any:
    """Return what a JSON file holds, as ``type`` (``msgspec.Struct``, dataclass or anything msgspec knows).

    A byte-order mark of UTF-8, which some editors write, is no part of the text.

    Raises:
        CheckpointError: no regular file, larger than any that is written here, no JSON, or of another type; the message
            names the file and the place in it.
    """
    size = size_of_file(path)
    if size > LARGEST_JSON:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {LARGEST_JSON} of JSON; name another file")
    return decode_json(path.read_bytes(), type, path)


@overload
def decode_json(text: bytes | str, type: type[T], where: object) -> T: ...
@overload
def decode_json(text: bytes | str, type: Any, where: object) -> Any: ...
def decode_json(text: bytes | str, type: Any, where: object) -> Any:
    """Return JSON as ``type``; ``where`` it stands is named in the message.

    Raises:
        CheckpointError: it is no JSON, or of another type.
    """
    text = text.removeprefix(codecs.BOM_UTF8) if isinstance(text, bytes) else text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CheckpointError(f"{where} is not JSON ({error}); it was altered or cut short: make it again") from error
    except RecursionError as error:
        raise CheckpointError(f"{where} is nested too deeply; it was altered: make it again") from error
    return value if type is Any else as_record(value, type, where)


def as_record(value: Any, type: type[T], where: object, *, text: bool = False) -> T:
    """Return what JSON gave as a record of ``type``, which a dataclass with unknown fields is not.

    text: numbers may stand there as text, as in the header of a tensor file.

    Raises:
        CheckpointError: it is of another type; the message names ``where`` it stands and the place in it.
    """
    if is_dataclass(type) and isinstance(value, dict):
        unknown = value.keys() - {field.name for field in fields(type)}
        if unknown:
            raise CheckpointError(f"{where} has settings this version does not know: {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(value, type, strict=not text)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where} does not hold what is expected: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    """Return the reason in one line: a wrong value of megabytes is not repeated."""
    line = " ".join(str(error).split())
    return line if len(line) < 300 else f"{line[:150]} ... {line[-100:]}"


def versions() -> dict[str, str]:
    """What a result depends on: interpreter and libraries."""
    names = ("onestride", "torch", "numpy", "mujoco", "mink", "minari", "gymnasium")
    found = {name: metadata.version(name) for name in names if _installed(name)}
    return {"python": platform.python_version(), **found}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
