"""What a policy's engine may run on, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch

from onestride.engine.fold.parts import NoEngineError
from onestride.engine.folder import GRAPH, Backend
from onestride.engine.graph import write_graph
from onestride.engine.native import NativeError, NativeRunner, library
from onestride.engine.openvino_runner import OpenVinoRunner, installed
from onestride.engine.program import write_program
from onestride.engine.runners import OnnxRunner, Runner, thread_counts
from onestride.engine.torch_runner import TorchRunner
from onestride.engine.whole import DecisionModule, WholePolicy, decision_module
from onestride.policy.policy import Policy

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def runners_of(
    policy: Policy, backend: Backend, *, threads: int | None, draws: int, seed: int, plan: bool
) -> list[Runner]:
    """A policy's decision, on what "auto" chooses from or on the one that was asked for; see ``Engine.from_policy``."""
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
    module = decision_module(policy, draws=draws, seed=seed, plan=plan)
    return list(_runners(module, backend, policy.device, threads))


def _runners(decision: DecisionModule, backend: Backend, device: torch.device, threads: int | None) -> Iterator[Runner]:
    """With every number of threads."""
    auto = backend == "auto"
    if backend.startswith("native") or (auto and device.type == "cpu"):
        try:
            program = write_program(decision, "int8" if backend == "native-int8" else "float32")
            name = "native" if auto else backend
            yield from [NativeRunner(program, n, name) for n in thread_counts(threads)]
        except (NativeError, NoEngineError):
            if not auto:
                raise
    if backend in ("onnx", "onnx-int8") or (auto and device.type == "cpu"):
        try:
            with TemporaryDirectory() as folder:
                graph = Path(folder) / GRAPH
                write_graph(decision, graph, int8=backend == "onnx-int8")
                name = "onnx" if auto else backend
                yield from [OnnxRunner(graph.read_bytes(), n, name) for n in thread_counts(threads)]
        except (ImportError, OSError):  # it is not installed, or nothing can be written anywhere
            if not auto:
                raise
    # What is folded is the native engine's; of networks that are not, such as convolutions, either may be the faster.
    if backend == "openvino" or (auto and device.type == "cpu" and installed() and isinstance(decision, WholePolicy)):
        with suppress(*((ImportError, OSError, RuntimeError) if auto else ())), TemporaryDirectory() as folder:
            write_graph(decision, graph := Path(folder) / GRAPH)
            yield from [OpenVinoRunner(graph.read_bytes(), n) for n in thread_counts(threads)]
    if backend in ("torch", "auto"):
        yield TorchRunner(decision, device)
    if backend == "compile" and device.type != "cuda":
        yield TorchRunner(decision, device, compiled=True)
    if backend.startswith("cuda-graph") or (backend in ("auto", "compile") and device.type == "cuda"):
        from onestride.engine.cuda_graph import CudaGraphRunner, Products

        products: dict[str, Products] = {"cuda-graph-tf32": "tf32", "cuda-graph-bf16": "bfloat16"}
        yield CudaGraphRunner(
            decision, device, products=products.get(backend, "float32"), compiled=backend == "compile"
        )


def preferred(policy: Policy, *, int8: bool = False) -> Backend:
    """The backend that engines of such a policy are best run by on a CPU: native where it can be, else ONNX Runtime."""
    try:
        write_program(decision_module(policy, draws=1, seed=0, plan=False))
        native = library().onestride_levels() > 0 if int8 else library() is not None
    except (NativeError, NoEngineError):
        native = False
    if int8:
        return "native-int8" if native else "onnx-int8"
    return "native" if native else "onnx"
