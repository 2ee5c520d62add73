"""An exported folder, as ``export`` wrote it: what decides, its contract, and whether they are still what they were."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from onestride.engine.native import NativeRunner
from onestride.engine.runners import INPUTS, OUTPUTS, Bound, OnnxRunner, thread_counts
from onestride.files import CheckpointError, read_json
from onestride.tasks import INTERFACES
from onestride.tasks.interface import Interface

GRAPH, PROGRAM, CONTRACT, CHECKSUMS = "model.onnx", "program.bin", "contract.json", "SHA256SUMS"
Format = Literal["onnx", "native"]
#: The file of an exported folder that decides, by its format.
DECIDES: dict[Format, str] = {"onnx": GRAPH, "native": PROGRAM}


def load_contract(folder: Path) -> dict[str, Any]:
    """The contract of an exported folder whose files are as they were written.

    Raises:
        CheckpointError: nothing there, incomplete, altered, or of a task or schema this version does not have.
    """
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder} holds no exported engine (no {CHECKSUMS}); make one with `onestride export`")
    lines = (folder / CHECKSUMS).read_text().splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def unaltered(name: str) -> Path:
        if not (folder / name).is_file() or listed.get(name) != checksum(folder / name):
            raise CheckpointError(f"{folder / name} is not the file that was exported; export it again")
        return folder / name

    contract = {"format": "onnx"} | read_json(unaltered(CONTRACT))  # folders of the first versions do not say
    if contract.get("schema") != 1 or contract["format"] not in DECIDES:
        raise CheckpointError(
            f"{folder} has contract schema {contract.get('schema')} and format '{contract['format']}', this version "
            f"reads 1 and {', '.join(DECIDES)}"
        )
    unaltered(DECIDES[contract["format"]])
    if contract["task"] not in INTERFACES:
        raise CheckpointError(f"{folder} is of task '{contract['task']}', this version has {', '.join(INTERFACES)}")
    return contract


def backend_of(contract: dict[str, Any]) -> str:
    """What runs the folder, as ``--engine`` calls it."""
    precision = contract["precision"]
    return contract["format"] if precision == "float32" else f"{contract['format']}-{precision}"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    return [
        NativeRunner(content, n, name) if form == "native" else OnnxRunner(content, n, name, provider)
        for n in thread_counts(threads)
    ]
