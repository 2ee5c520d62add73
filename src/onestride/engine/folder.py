"""An exported folder, as ``export`` wrote it: what decides, its contract, and whether they are still what they were."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import numpy as np

from onestride.engine.native import NativeRunner
from onestride.engine.openvino_runner import OpenVinoRunner, installed
from onestride.engine.runners import CPU, INPUTS, OUTPUTS, Bound, GraphError, OnnxRunner, thread_counts
from onestride.files import CheckpointError, read_bytes, read_json
from onestride.plans.asking import NOTHING, Asking
from onestride.robot.control_spec import ControlSpec, plain_control
from onestride.seals import check_file
from onestride.tasks import CONTROL_SPECS

GRAPH, PROGRAM, CONTRACT, CHECKSUMS = "model.onnx", "program.bin", "contract.json", "SHA256SUMS"
Format = Literal["onnx", "native"]
#: What a policy's engine may run on, see ``backends.py``.
Backend = Literal[
    "auto", "native", "native-int8", "onnx", "onnx-int8", "openvino", "torch", "compile", "cuda-graph",
    "cuda-graph-tf32", "cuda-graph-bf16",
]  # fmt: skip
#: The file of an exported folder that decides, by its format.
DECIDES: dict[Format, str] = {"onnx": GRAPH, "native": PROGRAM}

AGAIN = "it is not what was exported; export it again"


class Shaped(TypedDict):
    """What goes in or comes out: its type and shape; more, by what it is."""

    dtype: str
    shape: list[int]


class Asked(Shaped):
    """What plans may be asked for: names, sizes and ranges, and what an engine asks for at first (null: nothing)."""

    names: list[str]
    sizes: list[Annotated[int, msgspec.Meta(ge=1)]]
    low: list[float]
    high: list[float]
    usual: list[float | None]


class Ins(TypedDict):
    """What goes in."""

    observation: Shaped
    asked: NotRequired[Asked]
    committed: NotRequired[Shaped]


class Outs(TypedDict):
    """What comes out."""

    action: Shaped


class Control(TypedDict):
    """A plain control specification, see ``plain_control``."""

    name: str
    observation_dim: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    horizon: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    control_dt: Annotated[float, msgspec.Meta(gt=0)]
    low: list[float]
    high: list[float]


class Contract(TypedDict):
    """What is read of an exported folder's contract."""

    schema: int
    format: str
    task: str
    inputs: Ins
    outputs: Outs
    control: NotRequired[Control | None]
    control_dt_s: NotRequired[float]
    candidates: NotRequired[Annotated[int, msgspec.Meta(ge=1)]]
    nfe: NotRequired[Annotated[int, msgspec.Meta(ge=1)]]
    draws: Annotated[int, msgspec.Meta(ge=1)]
    precision: str


def load_contract(folder: Path) -> dict[str, Any]:
    """The contract of an exported folder whose files are as they were written.

    Raises:
        CheckpointError: nothing there, incomplete, altered, or of a task or schema this version does not have.
    """
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder} holds no exported engine (no {CHECKSUMS}); make one with `onestride export`")
    listed = listed_in(folder / CHECKSUMS)
    for name, wanted in listed.items():
        check_file(folder, name, wanted, CHECKSUMS, AGAIN)
    said = read_json(folder / CONTRACT, dict[str, Any])
    schema, form = said.get("schema"), said.setdefault("format", "onnx")  # folders of the first versions do not say
    if schema != 1 or form not in DECIDES:
        raise CheckpointError(
            f"{folder} has contract schema {schema} and format '{form}', this version reads 1 and {', '.join(DECIDES)}"
        )
    if not {CONTRACT, DECIDES[form]} <= listed.keys():
        raise CheckpointError(f"{folder / CHECKSUMS} does not list {CONTRACT} and {DECIDES[form]}; {AGAIN}")
    try:
        msgspec.convert(said, Contract)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{folder / CONTRACT}: {error}; {AGAIN}") from error
    contract = said
    if contract["task"] not in CONTROL_SPECS and contract.get("control") is None:
        raise CheckpointError(f"{folder} is of task '{contract['task']}', this version has {', '.join(CONTROL_SPECS)}")
    if contract.get("control") is not None and contract["control"]["name"] != contract["task"]:
        raise CheckpointError(
            f"{folder} is of task '{contract['task']}', its control specification of '{contract['control']['name']}'; "
            f"{AGAIN}"
        )
    return contract


def control_spec_of(contract: dict[str, Any]) -> ControlSpec:
    """Return the control specification of an exported folder: its task's, or what the contract says by its numbers."""
    made = CONTROL_SPECS.get(contract["task"])
    return plain_control(**contract["control"]) if made is None else made()


def asking_of(contract: dict[str, Any]) -> tuple[Asking, dict[str, list[float]]]:
    """Return what plans of an exported folder may be asked for, and what is asked for where nobody says anything."""
    said = contract["inputs"].get("asked")
    if said is None:
        return NOTHING, {}
    low, high = (np.asarray(said[name], np.float32) for name in ("low", "high"))
    made, at = {}, 0
    for name, size in zip(said["names"], said["sizes"], strict=True):
        if None not in (usual := said["usual"][at : at + size]):
            made[name] = usual
        at += size
    return Asking(tuple(said["names"]), tuple(said["sizes"]), low, high), made


def prefix_of(contract: dict[str, Any]) -> int:
    """Return how many commands may be committed when an exported folder decides."""
    said = contract["inputs"].get("committed")
    return 0 if said is None else said["shape"][0]


def listed_in(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that an exported folder's list names.

    Raises:
        CheckpointError: a line of it is none, or names a file elsewhere.
    """
    listed = {}
    for number, line in enumerate(read_bytes(path).decode(errors="replace").split("\n")[:-1], 1):
        wanted, _, name = line.partition("  ")
        if len(wanted) != 64 or not name or name in (".", "..") or "/" in name or "\\" in name or name in listed:
            raise CheckpointError(f"{path}, line {number}: expected the SHA-256 and the name of a file here; {AGAIN}")
        listed[name] = wanted
    return listed


def backend_of(contract: dict[str, Any]) -> str:
    """What runs the folder, as ``--engine`` calls it."""
    precision = contract["precision"]
    return contract["format"] if precision == "float32" else f"{contract['format']}-{precision}"


def check_contract(runner: Bound, contract: dict[str, Any], control: ControlSpec, folder: Path) -> None:
    """Whether graph (or program), contract and task are of one size.

    Raises:
        CheckpointError: they are not; the message says which.
    """
    decides, shapes = folder / DECIDES[contract["format"]], {v.name: v.shape for v in (*runner.inputs, *runner.outputs)}
    if set(INPUTS) - shapes.keys() or set(OUTPUTS[:4]) - shapes.keys():
        wanted = ", ".join((*INPUTS, *OUTPUTS[:4]))
        raise CheckpointError(f"{decides} has {', '.join(shapes)}; expected {wanted}")
    for name, said, tasks in (
        ("observation", tuple(contract["inputs"]["observation"]["shape"]), (control.observation_dim,)),
        ("action", tuple(contract["outputs"]["action"]["shape"]), (control.action_dim,)),
    ):
        if not shapes[name] == said == tasks:
            raise CheckpointError(
                f"{decides} has {name} {shapes[name]}, its contract says {said}, task '{control.name}' has {tasks}"
            )


def load_runners(folder: Path, contract: dict[str, Any], provider: str, threads: int | None) -> list[Bound]:
    """What decides, with every number of threads; see ``Engine.from_folder``.

    Raises:
        CheckpointError: ONNX Runtime cannot load the graph.
    """
    form, name = contract["format"], backend_of(contract)
    content, counts = (folder / DECIDES[form]).read_bytes(), thread_counts(threads)
    if form == "native":
        return [NativeRunner(content, n, name) for n in counts]
    try:
        made: list[Bound] = [OnnxRunner(content, n, name, provider) for n in counts]
    except GraphError as error:
        raise CheckpointError(f"{folder / GRAPH}: {error}; export it again, or install the version of then") from error
    if provider == CPU and name == "onnx" and installed():  # the sooner done of both decides
        with suppress(RuntimeError):  # which it cannot read, the other may
            made += [OpenVinoRunner(content, n) for n in counts]
    return made
