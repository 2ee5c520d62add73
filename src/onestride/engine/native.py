"""A folded decision by ``c/decide.c``, built by this machine's C compiler: no runtime, all its vectors, no waiting."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onestride.compiling import NativeError, load
from onestride.engine.building import ENGINE, widest
from onestride.engine.layout import FIELDS, HEADER, MAGIC, VERSION
from onestride.engine.runners import ASKED, Answer, RefusedError, Shape

Precision = Literal["float32", "int8"]
#: What decide.h's onestride_decide gives instead of a winner.
REFUSALS = {
    -1: "an entry of the observation is not finite",
    -2: "the goal is outside the arm's workspace",
    -3: "the goal is inside an obstacle",
    -4: "an obstacle has no kind or size that there is",
}


class NativeRunner:
    """A program (``write_program``) on so many threads of this machine's CPU."""

    checks = True

    def __init__(self, program: bytes, threads: int, name: str = "native") -> None:
        self._engine: int | None = None
        self._library = library()
        if not program.startswith(MAGIC) or len(program) < HEADER.size:
            raise NativeError(f"these {len(program)} bytes are no program; export the policy again")
        version, *fields = np.frombuffer(program, "<i4", 1 + len(FIELDS), len(MAGIC)).tolist()
        if version != VERSION:
            raise NativeError(
                f"this program is of version {version} of its format, and version {VERSION} is read here; export the "
                "policy again"
            )
        header = dict(zip(FIELDS, fields, strict=True))
        if name.endswith("int8") and not self._library.onestride_levels():
            raise NativeError(
                "8 bits need AVX2 (with AVX-512 its VNNI too) or ARM's dot product, and this processor has neither: "
                "take onnx-int8, or native in float32"
            )
        self._engine = self._library.onestride_create(program, len(program), threads, None)
        if not self._engine:
            raise NativeError(
                f"no decision can be made of this program ({len(program)} bytes): it is cut short or altered, or "
                "memory is short; export the policy again"
            )
        self.name = f"{name}, {threads} thread{'s' * (threads > 1)}"
        o, actions = header["observation"], header["action"]
        self._observation, self._action = np.zeros(o, np.float32), np.zeros(actions, np.float32)
        self._scores, self._best = np.zeros(header["candidates"], np.float32), np.zeros(1, np.float32)
        row = np.zeros(header["state"] + header["decoded"], np.float32)
        self._plan = row.reshape(header["horizon"], -1) if header["horizon"] else None
        self.inputs = [Shape("observation", np.float32, (o,)), Shape("draw", np.int64, (1,))]
        self._asked = np.full(header["asked"], np.nan, np.float32)
        if len(self._asked):
            self.inputs.append(Shape(ASKED, np.float32, self._asked.shape))
        self.outputs = [
            Shape("action", np.float32, (actions,)), Shape("score", np.float32, ()), Shape("winner", np.int64, ()),
            Shape("scores", np.float32, self._scores.shape),
        ]  # fmt: skip
        if self._plan is not None:
            self.outputs.append(Shape("plan", np.float32, self._plan.shape))
        self._kept = (self._observation, self._action, row, self._scores, self._best)
        given, *self._filled = (array.ctypes.data for array in self._kept)
        self._given = (self._engine, given)

    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,) from the next decision on; NaN: not asked for."""
        if len(self._asked):
            self._asked[:] = numbers
            self._library.onestride_ask(self._engine, self._asked.ctypes.data)

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        self._observation[:] = observation
        winner = self._library.onestride_decide(*self._given, draw, *self._filled)
        if winner < 0:
            raise RefusedError(REFUSALS[winner])
        return Answer(self._action, float(self._best[0]), winner, self._scores, self._plan)

    def __del__(self) -> None:
        if self._engine:
            self._library.onestride_destroy(self._engine)
        self._engine = None


# ---------------------------------------------------------------- the library


@cache
def library(folder: Path | None = None) -> Any:
    """``c/decide.c`` for this machine, built in ``folder`` if it is not there yet (``compiling.build``).

    Raises:
        NativeError: there is no C compiler, it fails, or what it makes does not load.
    """
    found = load(ENGINE, folder)
    try:
        found.onestride_create.restype = ctypes.c_void_p
        found.onestride_create.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
        found.onestride_decide.restype = ctypes.c_int
        found.onestride_decide.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 4]
        found.onestride_ask.restype = None
        found.onestride_ask.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        found.onestride_destroy.restype = None
        found.onestride_destroy.argtypes = [ctypes.c_void_p]
        lanes, there = found.onestride_lanes(), widest()
    except AttributeError as error:
        raise NativeError(f"what $CC made of decide.c lacks its functions ({error}); name a C compiler") from error
    if lanes < there:
        sys.stderr.write(
            f"onestride: the engine was built for vectors of {lanes} numbers, and this processor has them of {there}: "
            "decisions take longer than they need. Check $CC and $CFLAGS, or install a newer compiler\n"
        )
    return found
