"""What runs a folded decision that is written down: what is asked of it, ONNX Runtime, and which is soonest done."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from onestride.cores import usable_cores
from onestride.engine.forks import never_freed_in_children
from onestride.errors import naming_extras
from onestride.robot.control_spec import ControlSpec

CPU = "CPUExecutionProvider"
INPUTS = ("observation", "draw")
ASKED = "asked"  # one more input, of planners that take conditions
COMMITTED = "committed"  # one more input, of planners with a prefix
OUTPUTS = ("action", "score", "winner", "scores", "plan")
#: Before a decision that is timed [s]: a control loop sleeps between two decisions, and the cores with it.
PAUSE = 0.003
#: Of decisions that choose the fastest runner: how many in a row, and how many such rows.
IN_A_ROW, ROWS = 4, 5
MOST_THREADS = 64  # of a decision: each takes a block of candidates


class Answer(NamedTuple):
    """What a backend gives, as NumPy: action (A,), score, winner, scores (N,), plan (H, D) or None."""

    action: np.ndarray
    score: float
    winner: int
    scores: np.ndarray
    plan: np.ndarray | None


class RefusedError(ValueError):
    """A backend's own check of the observation; the task's says more."""


class GraphError(ValueError):
    """A graph that ONNX Runtime cannot load: it is damaged, or of a version that this one does not know."""


class Runner(Protocol):
    """A folded decision on some backend. checks: ``run`` refuses what the task's ``check`` does, in a fraction of the
    time; else whoever calls it has to check first."""

    name: str
    checks: bool

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        """Of an observation float32 (observation_dim,) with the noise of ``draw``; overwritten by the next call.

        Raises:
            RefusedError: where it checks, an observation that cannot be acted on.
        """
        ...

    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,) from the next decision on, float32; NaN: not asked for.

        Of a planner with a prefix: commit these action columns (P, A); NaN: not committed.
        """
        ...


@dataclass(frozen=True)
class Shape:
    """One of what goes in or comes out."""

    name: str
    dtype: Any
    shape: tuple[int, ...]


class Bound(Runner, Protocol):
    """A runner of what was written down, which says what goes in and comes out."""

    inputs: list[Shape]
    outputs: list[Shape]


def onnx_runtime(part: str = "") -> Any:
    """Return ONNX Runtime, or a part of it such as ``quantization``: every import of it in onestride is this one.

    Its Linux builds send telemetry since 1.29. It is off here unless $ORT_DISABLE_TELEMETRY says otherwise, which is
    read when the library is loaded: an engine on a robot opens no connection by itself.

    Raises:
        ImportError: the export extra is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with naming_extras():
        return importlib.import_module(f"onnxruntime.{part}" if part else "onnxruntime")


class OnnxRunner:
    """A graph in ONNX Runtime, with inputs and outputs bound to arrays that stay."""

    checks = False

    def __init__(self, graph: bytes, threads: int, name: str = "onnx", provider: str = CPU) -> None:
        onnxruntime = onnx_runtime()
        there = onnxruntime.get_available_providers()
        if provider not in there:
            raise ValueError(
                f"this ONNX Runtime has no {provider}; it has {', '.join(there)}. Install a build that has it, such as "
                "onnxruntime-gpu for CUDA"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads wait awake within a decision only.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.name = f"{name}, {threads} thread{'s' * (threads > 1)}"
        try:
            self.session = onnxruntime.InferenceSession(graph, options, providers=[provider])
        except Exception as error:  # its own errors have no class in common
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise GraphError(f"ONNX Runtime {onnxruntime.__version__} cannot load it ({error})") from error
        never_freed_in_children(self.session)
        types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
        self.inputs, self.outputs = (
            [Shape(v.name, types[v.type], tuple(v.shape)) for v in values]
            for values in (self.session.get_inputs(), self.session.get_outputs())
        )
        self._binding = self.session.io_binding()
        self._arrays = {v.name: np.zeros(v.shape, v.dtype) for v in (*self.inputs, *self.outputs)}
        self._beside = [self._arrays[name] for name in (ASKED, COMMITTED) if name in self._arrays]
        self.ask(np.array(np.nan, np.float32))
        for values, bind in ((self.inputs, self._binding.bind_input), (self.outputs, self._binding.bind_output)):
            for v in values:
                bind(v.name, "cpu", 0, v.dtype, v.shape, self._arrays[v.name].ctypes.data)

    def give(self, values: dict[str, Any]) -> dict[str, np.ndarray]:
        """Inputs by name -> all arrays by name, inputs too; the next call overwrites them. Others keep their value."""
        for name, value in values.items():
            if name in self._arrays:  # the graph may not depend on it
                self._arrays[name][...] = value
        self.session.run_with_iobinding(self._binding)
        return self._arrays

    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,), or commit these columns (P, A), from the next decision on; NaN: not."""
        for beside in self._beside:
            beside[...] = numbers

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        found = self.give({"observation": observation, "draw": draw})
        return Answer(found["action"], float(found["score"]), int(found["winner"]), found["scores"], found.get("plan"))


def thread_counts(threads: int | None) -> list[int]:
    """What to measure: the number asked for, or 1, 2, 4 ... and all the cores this process may use."""
    if threads is not None:
        if not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
            raise ValueError(f"threads is {threads}, expected a whole number from 1 to {MOST_THREADS}")
        return [threads]
    cores = usable_cores()
    return sorted({*(2**i for i in range(cores.bit_length()) if 2**i <= cores), cores})


def fastest(runners: Sequence[Runner], control: ControlSpec) -> tuple[Runner, str]:
    """Return the runner whose slow decisions are the soonest done, and what to say about it.

    Measured in turns, each after a pause, as a control loop has them. What counts is the slowest decision of a few in a
    row, and of that the median over such rows: a tail, since medians of all would hide it, which one slow moment of the
    machine does not change, whomever it meets.
    """
    if len(runners) == 1:
        return runners[0], runners[0].name
    example = np.zeros(control.observation_dim) if control.example is None else control.example
    observation = example.astype(np.float32)
    times: list[list[float]] = [[] for _ in runners]
    for i in range(ROWS * IN_A_ROW + 3):  # the first three warm up
        for runner, taken in zip(runners, times, strict=True):
            time.sleep(PAUSE)
            began = time.perf_counter()
            runner.run(observation, 0)
            if i >= 3:
                taken.append(time.perf_counter() - began)
    tails = [1e3 * float(np.median(np.reshape(taken, (ROWS, IN_A_ROW)).max(1))) for taken in times]
    best = int(np.argmin(tails))
    others = ", ".join(f"{r.name} {t:.2f}" for r, t in zip(runners, tails, strict=True) if r is not runners[best])
    measured = f"{tails[best]:.2f} ms at the start, the slowest of {IN_A_ROW} decisions"
    return runners[best], f"{runners[best].name}: {measured} (others: {others})"
