"""What a machine can do at most: matrix products of the networks' size, and copies of memory.

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

#: Before what is measured [s]: threads of what ran before wait awake for some milliseconds, and would burden it.
PAUSE = 0.02
CALLS = 100  # of a product, whose best is the ceiling: cores are slow to wake
WIDTH = 512  # inputs and outputs of the products
IN_A_ROW = 8  # products of a native program, so that what is around them does not count


def products(rows: Sequence[int]) -> Callable[[int], float]:
    """rows -> GFLOP/s of a product of that many, by torch, ONNX Runtime or the native engine, whichever is fastest."""
    layer = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    runners, native, threads = {}, {}, torch.get_num_threads()
    for n in rows:
        runners[n] = OnnxRunner(_product_graph(layer.weight, n), threads)
        try:
            native[n] = NativeRunner(product_program(n, WIDTH, IN_A_ROW), threads)
        except NativeError:  # no compiler: the other two are the ceiling
            continue
    given, nothing = {n: torch.randn(n, WIDTH) for n in rows}, np.zeros(1, np.float32)

    def rate(n: int) -> float:
        with torch.inference_mode():
            times = [_best(lambda: layer(given[n]), CALLS)]
        time.sleep(PAUSE)
        times.append(_best(lambda: runners[n].give({}), CALLS))
        if n in native:
            time.sleep(PAUSE)
            times.append(_best(lambda: native[n].run(nothing, 0), CALLS) / IN_A_ROW)
        return 2 * n * WIDTH * WIDTH / min(times) / 1e9

    return rate


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


def copying() -> float:
    """GB/s, read and written, of a copy of 64 MiB: more than caches hold."""
    block = np.ones(1 << 23)
    to = np.empty_like(block)
    return 2 * block.nbytes / _best(lambda: np.copyto(to, block), 3) / 1e9


def products_on(device: torch.device, rows: Sequence[int]) -> Callable[[int], float]:
    """rows -> GFLOP/s of a float32 product of that many on a CUDA device, of CALLS in a row."""
    layer = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    nn.init.orthogonal_(layer.weight)  # what it multiplies stays as large as it was
    layer = layer.to(device)
    given = {n: torch.randn(n, WIDTH, device=device) for n in rows}

    def in_a_row(x: Tensor) -> tuple[Tensor]:
        for _ in range(CALLS):
            x = layer(x)
        return (x,)

    with tf32(False):
        replays = {n: captured(lambda x=x: in_a_row(x), device)[0] for n, x in given.items()}
    return lambda n: 2 * n * WIDTH * WIDTH * CALLS / _best_on(device, replays[n], 3) / 1e9


def copying_on(device: torch.device) -> Callable[[], float]:
    """GB/s, read and written, of a copy of 1 GiB of a CUDA device's memory: more than its caches hold."""
    block = torch.ones(1 << 28, device=device)
    to = torch.empty_like(block)
    return lambda: 2 * block.nbytes / _best_on(device, lambda: to.copy_(block), 3) / 1e9


def _best_on(device: torch.device, call: Callable[[], object], times: int) -> float:
    """The shortest of some calls by the device's clock [s]."""
    shortest = float("inf")
    with torch.cuda.device(device):
        for _ in range(times):
            began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            began.record()
            call()
            ended.record()
            ended.synchronize()
            shortest = min(shortest, 1e-3 * began.elapsed_time(ended))
    return shortest


def _best(call: Callable[[], object], times: int) -> float:
    """The shortest of some calls [s]."""
    shortest = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest
