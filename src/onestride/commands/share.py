"""Folders go to a model hub and come from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro


@dataclass(frozen=True)
class Push:
    """Upload a trained planner, a selector or an exported folder to a model hub, with its card.

        onestride push runs/demo/dnk-0 --to me/arm-dnk
        onestride push exported/arm --to me/arm-engine --private

    Its own files alone are sent: no data set, no log, nothing else that lies there. Log in once by `hf auth login`, or
    put a token into $HF_TOKEN. $HF_ENDPOINT names another hub.
    """

    doing: ClassVar[str] = "uploading {folder} to {to}"

    folder: tyro.conf.Positional[Path] = Path()
    """A trained planner's or selector's folder, such as runs/demo/dnk-0, or an exported one."""
    to: str = ""
    """The repository, USER/NAME. It is made where there is none."""
    private: bool = False
    """Nobody else may see it."""
    revision: str | None = None
    """The branch, which is made where there is none. None: main."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.hub.push import push

        print(push(self.folder, self.to, private=self.private, revision=self.revision))


@dataclass(frozen=True)
class Pull:
    """Download a trained planner, a selector or an exported folder from a model hub.

        onestride pull me/arm-engine --to exported/arm

    It is held against its digests before it is put in place, and nothing of it is executed. It needs no torch.
    $HF_ENDPOINT names another hub.
    """

    doing: ClassVar[str] = "downloading {name}"

    name: tyro.conf.Positional[str] = ""
    """The repository, USER/NAME."""
    to: Path | None = None
    """The folder to make. None: NAME, here."""
    revision: str | None = None
    """A branch, a tag or a commit. None: main."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.hub.pull import pull

        to = Path(self.name.rpartition("/")[2]) if self.to is None else self.to
        commit = pull(self.name, to, revision=self.revision)
        print(f"{to}: {self.name} at {commit}")
