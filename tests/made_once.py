"""Folders that several test files use, made once: xdist's workers are processes, and each has fixtures of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pytest import TempPathFactory  # noqa: PT013


def made_once(factory: TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make`` has filled. Of several workers one makes it, and every one has its own copy."""
    own = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    finished = factory.getbasetemp().parent / f"{name}-made"
    with FileLock(f"{finished}.lock"):
        if not finished.exists():
            begun = finished.with_suffix(".begun")
            shutil.rmtree(begun, ignore_errors=True)  # by one whose making failed
            begun.mkdir()
            make(begun)
            begun.rename(finished)
    return Path(shutil.copytree(finished, own, dirs_exist_ok=True))
