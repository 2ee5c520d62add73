"""OpenVINO: another runtime of ONNX graphs on CPUs, which is sooner done with some networks of convolutions."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from onestride.engine.forks import never_freed_in_children
from onestride.engine.runners import ASKED, COMMITTED, INPUTS, OUTPUTS, Answer, Shape
from onestride.errors import naming_extras

GIVEN = (*INPUTS, ASKED, COMMITTED)
TYPES = {"f32": np.float32, "i64": np.int64}


def installed() -> bool:
    """Return whether OpenVINO is there."""
    return find_spec("openvino") is not None


class OpenVinoRunner:
    """A graph in OpenVINO, in single precision, with inputs and outputs bound to arrays that stay.

    Raises:
        ImportError: the openvino extra is not installed.
        RuntimeError: OpenVINO cannot read the graph.
    """

    checks = False

    def __init__(self, graph: bytes, threads: int, name: str = "openvino") -> None:
        with naming_extras():
            openvino = importlib.import_module("openvino")
        self.process = os.getpid()
        self.name = f"{name}, {threads} thread{'s' * (threads > 1)}"
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has units for it
            "ENABLE_CPU_PINNING": False,  # which cores a robot's threads run on is its operator's affair
        }
        core = _core(self.process)
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self._request: Any = compiled.create_infer_request()
        for each in (compiled, self._request):
            never_freed_in_children(each)
        self.inputs, self.outputs = _shapes(compiled.inputs, GIVEN), _shapes(compiled.outputs, OUTPUTS)
        self._arrays = {v.name: np.zeros(v.shape, v.dtype) for v in (*self.inputs, *self.outputs)}
        self._beside = [self._arrays[name] for name in (ASKED, COMMITTED) if name in self._arrays]
        self.ask(np.array(np.nan, np.float32))
        for number, v in enumerate(self.inputs):
            self._request.set_input_tensor(number, openvino.Tensor(self._arrays[v.name], shared_memory=True))
        for number, v in enumerate(self.outputs):
            self._request.set_output_tensor(number, openvino.Tensor(self._arrays[v.name], shared_memory=True))

    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,), or commit these columns (P, A), from the next decision on; NaN: not."""
        for beside in self._beside:
            beside[...] = numbers

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        """See ``Runner.run``.

        Raises:
            RuntimeError: this is a forked child, where its threads are not.
        """
        if os.getpid() != self.process:
            raise RuntimeError("this engine of OpenVINO was made before this process was forked: make the engine there")
        arrays = self._arrays
        for name, value in (("observation", observation), ("draw", draw)):
            if name in arrays:  # the graph may not depend on it
                arrays[name][...] = value
        self._request.infer()
        return Answer(
            arrays["action"], float(arrays["score"]), int(arrays["winner"]), arrays["scores"], arrays.get("plan")
        )


@cache
def _core(process: int) -> Any:
    """Return a process's one core, which lives as long as it does.

    A core gives the thread that made it another stack for signals. Where two cores end in the order they were made, the
    memory of that stack is gone, and the next Ctrl-C is a segmentation fault (seen in OpenVINO 2026.4). A forked child
    has none of a core's threads and makes its own.
    """
    del process  # the key
    made = importlib.import_module("openvino").Core()
    never_freed_in_children(made)
    return made


def _shapes(ports: Any, known: tuple[str, ...]) -> list[Shape]:
    """Return what goes in or comes out by its name among those known; of one that has several, one not yet taken."""
    made: list[Shape] = []
    for port in ports:
        taken = {each.name for each in made}
        names = (each for each in known if each in port.names and each not in taken)
        name = next(names, port.any_name)
        made.append(Shape(name, TYPES[port.element_type.to_string()], tuple(port.shape)))
    return made
