"""A checkpoint or an exported folder goes to a model hub, in one commit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onestride.card import CARD
from onestride.files import CONFIG
from onestride.hub.card import card_of, with_licence_of
from onestride.hub.connection import HubError, check_name, connect, in_one_line
from onestride.hub.folder import LISTS, list_of, parts_of, strangers_in
from onestride.seals import sha256


def push(folder: Path, to: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload a folder's own files and its card; returns the commit's address.

    A licence that the card on the hub has stays, unless the folder's card has one.

    Args:
        folder: a checkpoint, or an exported folder.
        to: the repository, ``user/name``; it is made where there is none.
        private: nobody else may see it.
        revision: the branch; None: ``main``.

    Raises:
        CheckpointError: the folder is something else, was altered, or holds files that are none of its own.
        HubError: there is no token, the hub refuses, or the repository holds something else than the folder.
    """
    api, to = connect(), check_name(to)
    from huggingface_hub import CommitOperationAdd, get_token

    parts = parts_of(folder)
    if strangers := strangers_in(folder, [*parts, CARD]):
        raise HubError(
            f"{folder} holds what is no part of it and is not shared: {', '.join(strangers[:5])}. Take it out of there"
        )
    if get_token() is None:
        raise HubError(f"no token for {api.endpoint}: log in by `hf auth login`, or put one into $HF_TOKEN")
    card = card_of(folder)
    content = {name: (folder / name).read_bytes() if name == CARD else str(folder / name) for name in parts}
    with in_one_line(api, to, revision):
        api.create_repo(to, private=private or None, exist_ok=True)
        if private and not api.repo_info(to).private:
            raise HubError(f"'{to}' is there already and public; make it private there, or leave --private away")
        if revision is not None:
            api.create_branch(to, branch=revision, exist_ok=True)
        there = {file.rfilename for file in api.repo_info(to, revision=revision).siblings or ()}
        mine = list_of(folder)
        if others := [name for name in LISTS if name in there and name != mine]:
            kind = "a checkpoint" if others == [CONFIG] else "an exported engine"
            raise HubError(f"'{to}' holds {kind}, and {folder} is none; choose another repository or --revision")
        if CARD in there:
            card = with_licence_of(card, _card_there(api, to, revision))
        content |= {CARD: card.encode()}
        operations = [CommitOperationAdd(name, made) for name, made in content.items()]
        message = f"{folder.resolve().name} ({sha256(folder / mine)[:12]})"
        return str(api.create_commit(to, operations, commit_message=message, revision=revision).commit_url)


def _card_there(api: Any, name: str, revision: str | None) -> str:
    with TemporaryDirectory() as folder:
        path = Path(api.hf_hub_download(name, CARD, revision=revision, local_dir=folder))
        return path.read_text(errors="replace")
