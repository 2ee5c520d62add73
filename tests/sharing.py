"""Folders that go to a hub and come from there by the program."""

from __future__ import annotations

import pytest

from onestride.cli import main
from onestride.engine.folder import CHECKSUMS

NAME = "me/arm"


def push(folder, *options, to=NAME):
    main(["push", str(folder), "--to", to, *options])


def pull(to, *options, name=NAME):
    main(["pull", name, "--to", str(to), *options])


def refused(capsys, command, *arguments, **options) -> str:
    with pytest.raises(SystemExit) as stop:
        command(*arguments, **options)
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    *_, about, line = [line for line in said if line.startswith("onestride: ")]
    assert about.startswith(("onestride: uploading ", "onestride: downloading "))
    assert said[-1] == line  # nothing after it: one line
    return line


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reseal(files: dict[str, bytes], name: str, data: bytes) -> None:
    """Put a file among an exported folder's and list it, as somebody would who wants it fetched."""
    import hashlib

    files[name] = data
    files[CHECKSUMS] += f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()
