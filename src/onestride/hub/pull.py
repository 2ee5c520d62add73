"""A checkpoint or an exported folder comes from a model hub: whole and as it was saved, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from onestride.card import CARD
from onestride.files import CONFIG, ensure_free_space, ensure_writable
from onestride.folders import replace_folder
from onestride.hub.connection import HubError, check_name, connect, in_one_line
from onestride.hub.folder import LISTS, listed, parts_of
from onestride.seals import LARGEST_FILE


def pull(name: str, to: Path, *, revision: str | None = None) -> str:
    """Download a repository's checkpoint or exported folder into the new folder ``to``; returns its commit.

    Only files that its own list names are fetched, and the card. They are held against their digests before the folder
    is put in place. Nothing of them is executed.

    Args:
        name: the repository, ``user/name``.
        to: the folder to make.
        revision: a branch, tag or commit; None: ``main``.

    Raises:
        CheckpointError: what is there is not ours, or was altered or cut short.
        FileExistsError: the folder is there already.
        HubError: the hub cannot be reached or refuses, or the repository holds no such folder.
    """
    api = connect()
    check_name(name)
    if to.exists():
        raise FileExistsError(f"{to} is there already; name another folder by --to, or remove it first")
    ensure_writable(to.parent)
    with in_one_line(api, name, revision):
        info = api.repo_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    lists = next((file for file in LISTS if file in sizes), None)
    if lists is None:
        raise HubError(f"'{name}' is no checkpoint and no exported engine of onestride (no {' and no '.join(LISTS)})")

    def fetch(folder: Path, file: str) -> None:
        if file not in sizes:
            raise HubError(f"'{name}' lacks {file}, which its list names; nothing was written")
        if sizes[file] > LARGEST_FILE:
            raise HubError(f"{file} of '{name}' has {sizes[file]} bytes, expected at most {LARGEST_FILE}: not ours")
        ensure_free_space(folder, sizes[file])
        with in_one_line(api, name, revision):
            api.hf_hub_download(name, file, revision=info.sha, local_dir=folder)  # all of one commit

    def fetch_listed(folder: Path, prefix: str, lists: str) -> None:
        fetch(folder, f"{prefix}{lists}")
        for file in listed(folder / prefix, lists):
            if file.endswith(f"/{CONFIG}"):
                fetch_listed(folder, f"{prefix}{file.removesuffix(CONFIG)}", CONFIG)
            else:
                fetch(folder, f"{prefix}{file}")
        if f"{prefix}{CARD}" in sizes:
            fetch(folder, f"{prefix}{CARD}")

    def write(new: Path) -> None:
        fetch_listed(new, "", lists)
        shutil.rmtree(new / ".cache", ignore_errors=True)  # what the library notes of its downloads
        parts_of(new)

    replace_folder(to, write)
    return str(info.sha)
