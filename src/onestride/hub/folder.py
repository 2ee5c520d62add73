"""What of a folder is shared: the files of a planner, a selector or an exported engine that a digest stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from onestride.card import CARD
from onestride.engine.folder import CHECKSUMS, CONTRACT, DECIDES, listed_in
from onestride.files import CONFIG, MODEL, CheckpointError
from onestride.seals import check_file, check_seal

#: The file that lists all others of a shared folder: of an exported engine, and of a checkpoint.
LISTS = (CHECKSUMS, CONFIG)
#: Kinds of files that ``onestride export`` writes. Whatever is listed beside them is not shared.
EXPORTED = (".onnx", ".bin", ".json", ".py", ".c", ".h", ".cpp")
LOG = "log"  # of a training, in its checkpoint's folder; it stays here
ADVICE = "it is not what was saved, and is not shared; make or fetch it again"


class Sealed(TypedDict):
    """What is read of a checkpoint's config."""

    kind: str
    task: str
    files: dict[str, str]


def list_of(folder: Path) -> str:
    """Return the name of the file that lists the others of a folder.

    Raises:
        CheckpointError: there is none: it is no folder that can be shared.
    """
    for name in LISTS:
        if (folder / name).is_file():
            return name
    if inside := sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}")):
        raise CheckpointError(
            f"{folder} is a run's folder; share one planner of it, such as {folder / inside[0]}. There are: "
            f"{', '.join(inside)}"
        )
    raise CheckpointError(
        f"{folder} is no checkpoint and no exported engine (no {' and no '.join(LISTS)}); train one, or make one with "
        "`onestride export`"
    )


def listed(folder: Path, name: str) -> dict[str, str]:
    """Return the SHA-256 of the files that ``folder / name`` lists, which need not be there yet.

    Raises:
        CheckpointError: it is altered, of something that is not shared, or lists a file of another kind than ours.
    """
    path = folder / name
    if name == CHECKSUMS:
        files = listed_in(path)
        if not ({CONTRACT} <= files.keys() and files.keys() & set(DECIDES.values())):
            raise CheckpointError(f"{path} does not list {CONTRACT} and {' or '.join(DECIDES.values())}; {ADVICE}")
        strange = [file for file in files if not file.endswith(EXPORTED)]
    else:
        config: dict[str, Any] = check_seal(path, advice=ADVICE)
        files = check_seal(path, Sealed, advice=ADVICE)["files"]
        if not config.keys() & {"plan", "selector"}:
            raise CheckpointError(
                f"{folder} is a part of a training ({config.get('kind')}), no planner and no selector"
            )
        strange = [file for file in files if file != MODEL and not _is_inside(file)]
    if strange:
        raise CheckpointError(f"{path} lists '{strange[0]}', which no folder of ours has; {ADVICE}")
    return files


def _is_inside(file: str) -> bool:
    """Whether it is the config of a checkpoint inside this one, such as ``selector/config.json``."""
    name, _, rest = file.partition("/")
    return rest == CONFIG and name.isidentifier()


def parts_of(folder: Path) -> list[str]:
    """Return the files of a folder that are shared, by their path in it, after all were held against their digests.

    Raises:
        CheckpointError: it cannot be shared, or a file is missing or altered.
    """
    name = list_of(folder)
    parts = [name]
    for file, wanted in listed(folder, name).items():
        check_file(folder, file, wanted, name, ADVICE)
        inside = Path(file).parent
        if inside.name:
            parts += [f"{inside}/{part}" for part in parts_of(folder / inside)]
        else:
            parts.append(file)
    return [*parts, CARD] if (folder / CARD).is_file() else parts


def strangers_in(folder: Path, parts: list[str]) -> list[str]:
    """Return the files of a folder that are none of its parts. Hidden ones and the training's log are left out."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir())
    kept = (path for path in found if path.parts[0] != LOG and not any(part.startswith(".") for part in path.parts))
    return [str(path) for path in kept if str(path) not in parts]
