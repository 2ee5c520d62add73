"""The machine's peaks: matrix products of the networks' size [GFLOP/s], and copies of memory [GB/s].

On a GPU both are timed by its own clock, products as one graph of many in a row, so that no launch counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onestride.engine.cuda_graph import captured, tf32
from onestride.engine.graph import OPSET
from onestride.engine.native import NativeError, NativeRunner
from onestride.engine.program import product_program
from onestride.engine.runners import OnnxRunner
from onestride.evaluation.metrics import PAUSE

CALLS = 100  # of a product, of which the fastest counts: cores are slow to wake
WIDTH = 512  # inputs and outputs of the products
IN_A_ROW = 8  # products of a native program, so that what is around them does not count


def product_peak(device: torch.device, rows: Sequence[int]) -> Callable[[int], float]:
    """Return a function from a number of rows, one of ``rows``, to the GFLOP/s of float32 products with so many.

    On a CPU they are of torch, ONNX Runtime or the native engine, whichever is fastest.
    """
    layer = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    shortest = _gpu_product(layer, device, rows) if device.type == "cuda" else _cpu_product(layer, rows)
    return lambda n: 2 * n * WIDTH * WIDTH / shortest(n) / 1e9


def _cpu_product(layer: nn.Linear, rows: Sequence[int]) -> Callable[[int], float]:
    """Number of rows -> time of a product [s]."""
    runners, native, threads = {}, {}, torch.get_num_threads()
    for n in rows:
        runners[n] = OnnxRunner(_product_graph(layer.weight, n), threads)
        try:
            native[n] = NativeRunner(product_program(n, WIDTH, IN_A_ROW), threads)
        except NativeError:  # no compiler: the peak is of the other two
            continue
    given, nothing = {n: torch.randn(n, WIDTH) for n in rows}, np.zeros(1, np.float32)

    def shortest(n: int) -> float:
        with torch.inference_mode():
            times = [_shortest(lambda: layer(given[n]), CALLS)]
        time.sleep(PAUSE)
        times.append(_shortest(lambda: runners[n].give({}), CALLS))
        if n in native:
            time.sleep(PAUSE)
            times.append(_shortest(lambda: native[n].run(nothing, 0), CALLS) / IN_A_ROW)
        return min(times)

    return shortest


def _gpu_product(layer: nn.Linear, device: torch.device, rows: Sequence[int]) -> Callable[[int], float]:
    """Number of rows -> time of a product [s], as one of CALLS in a row."""
    nn.init.orthogonal_(layer.weight)  # what it multiplies keeps its size
    layer = layer.to(device)
    given = {n: torch.randn(n, WIDTH, device=device) for n in rows}

    def in_a_row(x: Tensor) -> tuple[Tensor]:
        for _ in range(CALLS):
            x = layer(x)
        return (x,)

    with tf32(False):
        replays = {n: captured(lambda x=x: in_a_row(x), device)[0] for n, x in given.items()}
    return lambda n: _shortest(replays[n], 3, device) / CALLS


def copy_peak(device: torch.device) -> float:
    """Return the GB/s, read and written, of a copy of more memory than caches hold: 64 MiB, on a GPU 1 GiB."""
    if device.type == "cuda":
        block = torch.ones(1 << 28, device=device)
        to = torch.empty_like(block)
        return 2 * block.nbytes / _shortest(lambda: to.copy_(block), 3, device) / 1e9
    block = np.ones(1 << 23)
    to = np.empty_like(block)
    return 2 * block.nbytes / _shortest(lambda: np.copyto(to, block), 3) / 1e9


def _product_graph(weight: Tensor, rows: int) -> bytes:
    """x (rows, inputs) -> y (rows, outputs) as an ONNX graph."""
    import onnx
    from onnx import helper, numpy_helper

    outputs, inputs = weight.shape
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (rows, inputs))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (rows, outputs))
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(weight.T.numpy(), "weight")])
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def _shortest(call: Callable[[], object], times: int, device: torch.device | None = None) -> float:
    """The shortest of some calls [s], on a GPU by its own clock."""
    if device is None:
        return min(_clocked(call) for _ in range(times))
    with torch.cuda.device(device):
        return min(_clocked_by_gpu(call) for _ in range(times))


def _clocked(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _clocked_by_gpu(call: Callable[[], object]) -> float:
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    call()
    ended.record()
    ended.synchronize()
    return 1e-3 * began.elapsed_time(ended)
