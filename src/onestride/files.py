"""Files that are written whole or not at all, and folders that one process at a time works on."""

from __future__ import annotations

import errno
import glob
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from onestride.unwritable import advice, unwritable

CONFIG, MODEL = "config.json", "model.safetensors"  # of a checkpoint, see ``checkpoint.py``
METADATA = Path("data") / "metadata.json"  # of a data set, see ``data/minari.py``
TEMPORARY = ".tmp"  # suffix of files that are being written; their names begin with a dot
ABANDONED = 600.0  # a temporary file that was not written to for this long is abandoned [s]
LARGEST = 64 << 20  # largest JSON file that is read [bytes]
LEFT = 10.0  # the same in a folder that this process holds: others write only pictures there [s]

T = TypeVar("T")


class CheckpointError(ValueError):
    """Raised for a checkpoint or another file of a run that cannot be used. The message says what to do."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file, then move it to ``path`` in one step.

    An old file stays until the new one is complete and on disk. The temporary file has a folder of its own, next to
    ``path``, because some libraries write further files next to it. Leftovers of killed writers are removed.

    Raises:
        OSError: the disk is full or the folder cannot be written. The old file is unchanged.
    """
    make_folder(path.parent)
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
            f"could not write {path}: {error.strerror}; what was there is unchanged; {advice(error)}",
        ) from error
    except SafetensorError as error:  # how the writer reports a full disk
        raise OSError(f"could not write {path}: {error}; what was there is unchanged. Is the disk full?") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        OSError: something is in the way; the message says what, and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def temporary_folder(path: Path) -> Path:
    """Make and return a temporary folder next to ``path``."""
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY))


def clear_abandoned(parent: Path, name: str = "*", age: float = ABANDONED) -> None:
    """Remove what killed writers left in a folder.

    Args:
        parent: the folder.
        name: of the file or folder that was being written; "*" stands for any.
        age: only what was not written to for this long is removed [s].
    """
    pattern = f".*{TEMPORARY}" if name == "*" else f".{glob.escape(name)}.*{TEMPORARY}"
    for left in parent.glob(pattern):
        with suppress(OSError):  # somebody else was quicker
            touched = max(p.stat().st_mtime for p in (left, *left.glob("*")))
            if time.time() - touched > age:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def all_or_nothing(paths: Iterable[Path]) -> Iterator[None]:
    """Remove those of ``paths`` that the block made, if the block fails."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def ensure_free_space(folder: Path, size: int) -> None:
    """Raise OSError unless ``size`` bytes are free on the disk of ``folder``.

    It is for writers that end the process when a disk is full.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"{folder} takes {size / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free there. Free some space, then run "
            "the same command again",
        )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process until the block ends, and remove what a killed process left half-written.

    The lock is a file next to the folder. The system releases it when a process is killed.

    Raises:
        CheckpointError: another process holds the lock.
        OSError: nothing can be written there.
    """
    make_folder(folder.parent)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"another process is at work on {folder}. Wait for it, or stop it and run the same command again: it goes "
            "on from what is finished"
        ) from error
    except OSError as error:
        raise unwritable(folder.parent, error) from error
    try:
        clear_abandoned(folder, age=LEFT)
        yield
    finally:
        lock.release()


def size_of_file(path: Path) -> int:
    """Return the size of a regular file, with links followed [bytes].

    It is called before an external file is opened, because opening a pipe waits for its writer, and a device has no
    end.

    Raises:
        CheckpointError: the file is missing, or it is no regular file.
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


def ensure_writable(folder: Path) -> None:
    """Make ``folder`` and raise OSError unless files can be written there. Called before long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable.", suffix=TEMPORARY):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


def ensure_absent(path: Path) -> None:
    """Raise unless ``path`` can be written and is no file yet. Called before long work.

    Raises:
        FileExistsError: the file exists.
        OSError: its folder cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; name another file, or remove it first")
    ensure_writable(path.parent)


def ensure_checkpoint(folder: Path) -> None:
    """Raise CheckpointError unless ``folder`` holds a finished checkpoint; the message names the nearest beside it."""
    if not (folder / CONFIG).is_file():
        from difflib import get_close_matches  # only where something is wrong

        beside = sorted(p.parent.name for p in folder.parent.glob(f"*/{CONFIG}")) if folder.parent.is_dir() else []
        near = get_close_matches(folder.name, beside, 1)
        hint = f"; did you mean {near[0]}? Checkpoints" if near else "; checkpoints"
        hint = f"{hint} beside it: {', '.join(beside)}" if beside else "; train one first, see `onestride --help`"
        raise CheckpointError(f"{folder} holds no finished checkpoint (no {CONFIG}){hint}")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        OSError: see ``write_atomically``.
        ValueError: a number is not finite.
    """
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n"))


def read_json(path: Path, kind: type[T] | Any = Any) -> T:
    """Return the contents of a JSON file as ``kind``: a dataclass, a ``TypedDict``, a container of them, or anything.

    Raises:
        CheckpointError: the file is missing, larger than ``LARGEST``, no JSON, or not of that kind. The message is one
            line with the file, the place in it, and what was expected and found.
    """
    return decode(read_bytes(path), kind, path)


def read_lines(path: Path, kind: type[T] | Any = Any) -> list[T]:
    """Return every line of a JSON Lines file as ``kind``.

    Raises:
        CheckpointError: see ``read_json``. The message has the line's number.
    """
    lines = read_bytes(path, 16 * LARGEST).splitlines()
    return [decode(line, kind, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Return the contents of a regular file of at most ``largest`` bytes, without a byte-order mark.

    Raises:
        CheckpointError: the file is missing, no regular file, larger, or cannot be read.
    """
    size = size_of_file(path)
    if size > largest:
        raise CheckpointError(f"{path} has {size / 1e6:.0f} MB, expected at most {largest / 1e6:.0f}: it is not ours")
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def decode(data: bytes | str, kind: type[T] | Any, where: Path | str) -> T:
    """Return JSON as ``kind``.

    Args:
        data: the JSON.
        kind: the type to convert it to, see ``read_json``.
        where: what it was read from, for error messages.

    Raises:
        CheckpointError: the data are no JSON, or not of that kind.
    """
    data = data.encode() if isinstance(data, str) else data
    altered = "it was altered or cut short: make it again"
    if not data.strip():
        raise CheckpointError(f"{where} is empty, expected JSON; {altered}")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where}: {error}; {altered}") from error
    except RecursionError as error:
        raise CheckpointError(f"{where} is nested too deeply; {altered}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{where} is not JSON ({_why(data, error)}); {altered}") from error


def _why(data: bytes, error: Exception) -> str:
    """Return why this is no JSON, and in which line."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it begins with the byte-order mark of UTF-16, expected UTF-8"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason}"
    found = re.search(r"byte (\d+)", str(error))
    if found is None:
        return str(error)
    at = int(found[1])
    word = re.match(rb"-?(NaN|Infinity)", data[at:].lstrip())
    why = f"{word[0].decode()} is no number" if word else str(error)
    line = data.count(b"\n", 0, at) + 1
    return f"{why}, line {line}"


def versions() -> dict[str, str]:
    """Return the versions of the interpreter and of the libraries that results depend on."""
    from importlib import metadata  # takes its time, and who decides needs none

    found = {}
    for name in ("onestride", "torch", "numpy", "mujoco", "mink", "minari", "gymnasium"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {"python": platform.python_version(), **found}
