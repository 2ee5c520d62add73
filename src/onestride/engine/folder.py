"""An exported folder, as ``export`` wrote it: what decides, its contract, and whether they are still what they were."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from onestride.engine.native import NativeRunner
from onestride.engine.runners import INPUTS, OUTPUTS, Bound, OnnxRunner, thread_counts
from onestride.files import CheckpointError, as_record, read_json, size_of_file
from onestride.manifest import file_digest
from onestride.tasks import INTERFACES
from onestride.tasks.interface import Interface

GRAPH, PROGRAM, CONTRACT, CHECKSUMS = "model.onnx", "program.bin", "contract.json", "SHA256SUMS"
Format = Literal["onnx", "native"]
LARGEST, LARGEST_LIST = 2 << 30, 1 << 16  # [bytes], of a file and of the list of all
#: In a graph: a tensor whose numbers are in another file (``StringStringEntryProto.key``).
ELSEWHERE = b"\x0a\x08location"
#: The file of an exported folder that decides, by its format.
DECIDES: dict[Format, str] = {"onnx": GRAPH, "native": PROGRAM}


class Value(Struct):
    """An input or an output; what else is said of it is for people."""

    dtype: str
    shape: list[int]


class Contract(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a program that loads the folder has to know, as ``export`` writes it."""

    schema: int
    format: str
    task: str
    inputs: dict[str, Value]
    outputs: dict[str, Value]
    normalisation: str
    limits: str
    control_dt_s: float
    control_hz: float
    candidates: int
    draws: Annotated[int, Meta(ge=1)]
    seed: int
    selector: str
    precision: Literal["float32", "int8", "screened"]
    opset: int | None
    checkpoint: dict[str, str | None]
    compared_with_the_policy: dict[str, float | None]
    versions: dict[str, str]
    checksums: str = ""


def load_contract(folder: Path) -> dict[str, Any]:
    """The contract of an exported folder whose files are as they were written.

    Raises:
        CheckpointError: nothing there, incomplete, altered, or of a task or schema this version does not have.
    """
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder} holds no exported engine (no {CHECKSUMS}); make one with `onestride export`")
    listed = _listed(folder / CHECKSUMS)
    for name in (CONTRACT, *sorted(listed)):
        _check(folder / name, listed.get(name))
    found = {"format": "onnx"} | read_json(
        folder / CONTRACT, dict[str, Any]
    )  # folders of the first versions do not say
    if found.get("schema") != 1 or found["format"] not in DECIDES:
        raise CheckpointError(
            f"{folder / CONTRACT} has contract schema {found.get('schema')} and format '{found['format']}', this "
            f"version reads 1 and {', '.join(DECIDES)}"
        )
    as_record(found, Contract, folder / CONTRACT)
    if DECIDES[found["format"]] not in listed:
        _check(folder / DECIDES[found["format"]], None)
    if found["task"] not in INTERFACES:
        raise CheckpointError(f"{folder} is of task '{found['task']}', this version has {', '.join(INTERFACES)}")
    return found


def _listed(path: Path) -> dict[str, str]:
    """File names -> SHA-256, as ``sha256sum`` writes them."""
    if size_of_file(path) > LARGEST_LIST:
        raise CheckpointError(f"{path} is no list of a few files; export again")
    listed = {}
    for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
        found = re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+)", line)
        if found is None or found[2] in ("..", ".", CHECKSUMS):
            raise CheckpointError(f"{path}, line {number}, is no checksum of a file in the folder; export it again")
        listed[found[2]] = found[1]
    return listed


def _check(path: Path, expected: str | None) -> None:
    """Raise ``CheckpointError`` unless it is the file that was exported."""
    size = size_of_file(path) if path.exists() else 0
    if size > LARGEST:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {LARGEST}; export it again")
    if not path.exists() or expected is None or checksum(path) != expected:
        raise CheckpointError(f"{path} is not the file that was exported; export it again")


def backend_of(contract: dict[str, Any]) -> str:
    """What runs the folder, as ``--engine`` calls it."""
    precision = contract["precision"]
    return contract["format"] if precision == "float32" else f"{contract['format']}-{precision}"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return file_digest(path)


def agrees(runner: Bound, contract: dict[str, Any], task: Interface, folder: Path) -> None:
    """Whether graph (or program), contract and task are of one size.

    Raises:
        CheckpointError: they are not; the message says which.
    """
    decides, shapes = folder / DECIDES[contract["format"]], {v.name: v.shape for v in (*runner.inputs, *runner.outputs)}
    if set(INPUTS) - shapes.keys() or set(OUTPUTS[:4]) - shapes.keys():
        wanted = ", ".join((*INPUTS, *OUTPUTS[:4]))
        raise CheckpointError(f"{decides} has {', '.join(shapes)}; expected {wanted}")
    for name, said, tasks in (
        ("observation", tuple(contract["inputs"]["observation"]["shape"]), (task.observation_dim,)),
        ("action", tuple(contract["outputs"]["action"]["shape"]), (task.action_dim,)),
    ):
        if not shapes[name] == said == tasks:
            raise CheckpointError(
                f"{decides} has {name} {shapes[name]}, its contract says {said}, task '{task.name}' has {tasks}"
            )


def load_runners(folder: Path, contract: dict[str, Any], provider: str, threads: int | None) -> list[Bound]:
    """What decides, with every number of threads; see ``Engine.from_folder``."""
    form, name = contract["format"], backend_of(contract)
    content = (folder / DECIDES[form]).read_bytes()
    if form == "onnx" and ELSEWHERE in content:
        raise CheckpointError(
            f"{folder / GRAPH} names numbers in another file, which no exported graph does; do not use it"
        )
    return [
        NativeRunner(content, n, name) if form == "native" else OnnxRunner(content, n, name, provider)
        for n in thread_counts(threads)
    ]
