"""Why nothing can be written somewhere, in words: what is in the way, where, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM)
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)


def unwritable(folder: Path, error: OSError) -> OSError:
    """Return the error to raise where ``error`` kept files from being written into ``folder``."""
    return OSError(error.errno, f"{folder} cannot be written: {_reason(folder, error)}; {advice(error)}")


def advice(error: OSError) -> str:
    """Return what to do about an error of writing."""
    return "free some space, then run the same command again" if error.errno in NO_SPACE else "name another place"


def _reason(folder: Path, error: OSError) -> str:
    # Not Path.exists, which raises where a folder may not be looked into.
    place = next((each for each in (folder, *folder.parents) if os.path.exists(each)), Path())
    here = "it" if place == folder else str(place if place.parts else Path.cwd())
    if error.errno in NO_FOLDER and not place.is_dir():
        return f"{here} is a file, not a folder"
    if error.errno in NOT_ALLOWED:
        return f"this user may not write in {here}"
    if error.errno == errno.EROFS:
        return f"{here} is on a file system that is read-only"
    if error.errno == errno.ENOENT:
        return f"there is no such folder, and none can be made in {here}"
    return error.strerror or str(error)
