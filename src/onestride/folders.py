"""Folders whose files change in one step: all are the old ones, or all are the new ones."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from onestride.files import TEMPORARY, clear_abandoned, make_folder, temporary_folder
from onestride.unwritable import advice

EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2


def replace_folder(folder: Path, write: Callable[[Path], object], without: Iterable[str] = ()) -> None:
    """Call ``write`` on a copy of ``folder``, or on an empty folder where there is none, then exchange the two.

    After a kill at any moment or on a full disk the folder is the old one or the new one. Files are shared with the
    copy as links, so ``write`` must replace them in one step, as ``write_atomically`` does.

    Args:
        folder: what to change.
        write: makes the change in the folder that it is given.
        without: names that the copy leaves out.

    Raises:
        OSError: the disk is full or the folder cannot be written. The old folder is unchanged.
    """
    make_folder(folder.parent)
    clear_abandoned(folder.parent, folder.name)
    _put_back(folder)
    new = temporary_folder(folder)
    try:
        if folder.exists():
            shutil.copytree(
                folder, new, copy_function=_share, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*without)
            )
        write(new)
        new.chmod(0o755)
        _sync(new)
        if folder.exists():
            _exchange(new, folder)
        else:
            os.rename(new, folder)
        _sync_one(folder.parent)
    except OSError as error:
        said = (error.strerror or str(error)).replace(str(new), str(folder))
        if not said.startswith("could not"):
            said = f"could not write {folder}: {said}; what was there is unchanged; {advice(error)}"
        raise OSError(error.errno, said) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_back(folder: Path) -> None:
    """Undo an ``_exchange`` that a kill interrupted between its two steps."""
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.*{TEMPORARY}.old"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, folder)


def _share(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
            raise
        shutil.copy2(source, target)


def _exchange(new: Path, folder: Path) -> None:
    """Exchange the names of two folders in one step, or in two where the system has no such call."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        if rename(HERE, os.fsencode(new), HERE, os.fsencode(folder), EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(ctypes.get_errno(), f"could not replace {folder}: {os.strerror(ctypes.get_errno())}")
    old = new.with_name(f"{new.name}.old")
    os.rename(folder, old)
    os.rename(new, folder)
    os.rename(old, new)  # to be removed


def _sync(folder: Path) -> None:
    """Have all files below on disk before the folder is renamed."""
    for parent, _, files in os.walk(folder):
        for name in (parent, *(os.path.join(parent, f) for f in files)):
            _sync_one(Path(name))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
