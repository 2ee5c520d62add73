"""A reduced decision by ``c/decide.c``, built by this machine's C compiler: no runtime, all of its vectors, no waiting.

Built once per machine and kept in the user's cache (``$XDG_CACHE_HOME/onestride``, else ``~/.cache/onestride``).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onestride.engine.runners import Answer, RefusedError, Shape

SOURCES = tuple(sorted((Path(__file__).parent / "c").iterdir()))  # decide.c and what it includes
DECIDE = Path(__file__).parent / "c" / "decide.c"
MAGIC, VERSION = b"ONESTRID", 4
#: Of the header, after magic and version and before the buffers' widths; where numbers lie, from their first.
FIELDS = (
    "operations", "buffers", "numbers", "first",
    "task", "observation", "state", "inputs", "known", "candidates", "draws", "hidden", "noise", "features", "decoded",
    "action", "horizon",
    "known_weight", "known_bias", "offset", "bank", "noise_bank", "handicap", "finish_weight", "finish_bias",
    "low", "high", "constants",
)  # fmt: skip
HEADER = len(MAGIC) + 4 * (1 + len(FIELDS))
Precision = Literal["float32", "screened", "int8"]
COMPILERS = ("cc", "gcc", "clang")
#: What decide.h's onestride_decide gives instead of a winner.
REFUSALS = {
    -1: "an entry of the observation is not finite",
    -2: "the goal is outside the arm's workspace",
    -3: "the goal is inside an obstacle",
    -4: "an obstacle has no kind or size that there is",
}
#: What matters of /proc/cpuinfo: a cache in a shared home may serve several machines.
CPU_LINES = ("model name", "flags", "Features")


class NativeError(OSError):
    """No compiler, or one that fails, or a processor without what was asked for; the message says what to do."""


class NativeRunner:
    """A program (``write_program``) on so many threads of this machine's CPU."""

    checks = True

    def __init__(self, program: bytes, threads: int, name: str = "native") -> None:
        self._engine: int | None = None
        self._library = library()
        if not program.startswith(MAGIC) or len(program) < HEADER:
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
        self.outputs = [
            Shape("action", np.float32, (actions,)), Shape("score", np.float32, ()), Shape("winner", np.int64, ()),
            Shape("scores", np.float32, self._scores.shape),
        ]  # fmt: skip
        if self._plan is not None:
            self.outputs.append(Shape("plan", np.float32, self._plan.shape))
        self._kept = (self._observation, self._action, row, self._scores, self._best)
        given, *self._filled = (array.ctypes.data for array in self._kept)
        self._given = (self._engine, given)

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        self._observation[:] = observation
        winner = self._library.onestride_decide(*self._given, draw, *self._filled)
        if winner < 0:
            raise RefusedError(REFUSALS[winner])
        return Answer(self._action, float(self._best[0]), winner, self._scores, self._plan)

    @property
    def settled(self) -> int:
        """How many candidates' scores the last decision computed to the end; the others could not win."""
        return self._library.onestride_settled(self._engine)

    def __del__(self) -> None:
        if self._engine:
            self._library.onestride_destroy(self._engine)
        self._engine = None


# ---------------------------------------------------------------- building


@cache
def library(folder: Path | None = None) -> Any:
    """``c/decide.c`` for this machine, built in ``folder`` (``build``) if it is not there yet.

    Raises:
        NativeError: there is no C compiler, or it fails.
    """
    found = ctypes.CDLL(str(build(folder)))
    found.onestride_create.restype = ctypes.c_void_p
    found.onestride_create.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
    found.onestride_decide.restype = ctypes.c_int
    found.onestride_decide.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 4]
    found.onestride_settled.restype = ctypes.c_int
    found.onestride_settled.argtypes = [ctypes.c_void_p]
    found.onestride_destroy.restype = None
    found.onestride_destroy.argtypes = [ctypes.c_void_p]
    return found


def build(folder: Path | None = None) -> Path:
    """The library's file in ``folder`` (None: the user's cache), built if it is not there for this machine yet.

    $CC and $CFLAGS are heeded.
    """
    name = os.environ.get("CC") or next((c for c in COMPILERS if shutil.which(c)), None)
    compiler = shutil.which(name) if name else None
    if compiler is None:
        raise NativeError(
            f"no C compiler: {name or ', '.join(COMPILERS)} not found. Install one (Debian: apt install gcc), name it "
            "in $CC, or run the engine by ONNX Runtime (--engine onnx)"
        )
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onestride"
    own = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    # Aligned loops: where they fall else is chance, and a decision some per cent faster or slower by it.
    options = ["-std=gnu11", "-O3", own, "-falign-loops=64", "-fPIC", "-shared", "-pthread"]
    options += [*os.environ.get("CFLAGS", "").split(), "-fno-fast-math"]  # a number that is none has to be seen
    sources = [path.read_text() for path in SOURCES]
    made_of = (*sources, compiler, *options, sys.platform, platform.machine(), _cpu())
    target = folder / f"decide-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    if target.exists():
        return target
    sys.stderr.write("onestride: building the engine for this processor, once; it takes some seconds\n")
    with _beside(target) as beside:
        made = Path(beside) / target.name
        done = subprocess.run(
            [compiler, *options, str(DECIDE), "-o", str(made), "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = done.stderr.strip()[-2000:]
            raise NativeError(
                f"{compiler} could not build {DECIDE.name}; run the engine by ONNX Runtime. It said: {said}"
            )
        os.replace(made, target)
    return target


def _beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder to build in, on the disk where the library will be."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=target.parent)
    except OSError as error:
        raise NativeError(
            f"the engine is built once, in {target.parent}, which cannot be written ({error.strerror}); name another "
            "folder in $XDG_CACHE_HOME, or run the engine by ONNX Runtime"
        ) from error


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else [platform.processor()]
    return "\n".join(sorted({line for line in lines if line.startswith(CPU_LINES)}))
