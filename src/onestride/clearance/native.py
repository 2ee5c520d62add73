"""Certificates by ``c/clearance.c``, built by this machine's C compiler: the same as NumPy's, to rounding.

A command takes some hundred calls of NumPy, and each costs more than what it computes.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_int, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from onestride.clearance.certificate import ROUNDING, Motion, Surroundings
from onestride.clearance.motions import BEYOND, SAME, PositionLimits
from onestride.clearance.shapes import RoundedBoxes
from onestride.compiling import NativeError, Source, load

#: "auto": C where it can be built, else NumPy.
Choice = Literal["auto", "native", "numpy"]
CLEARANCE = Source(
    Path(__file__).parent / "c" / "clearance.c",
    "the clearance filter's kernel",
    'or let NumPy compute (kernel="numpy")',
)

CAPSULES = 8  # of an arm, as in ``c/clearance.h``
ROOM = 8  # numbers per knot of which C makes notes


class _Boxes(ctypes.Structure):
    _fields_ = [("count", c_int), *((name, c_void_p) for name in ("center", "turn", "half", "rounding"))]


class _Surroundings(ctypes.Structure):
    _fields_ = [("boxes", _Boxes), ("count", c_int), ("walls", c_void_p), ("speed", c_double), ("age", c_double)]


class _Limits(ctypes.Structure):
    _fields_ = [
        ("low", c_double * 3), ("high", c_double * 3),
        *((name, c_double) for name in ("speed", "acceleration", "deceleration", "control_dt", "same", "beyond")),
    ]  # fmt: skip


class Arm(ctypes.Structure):
    """An arm's numbers; see ``c/clearance.h``."""

    _fields_ = [
        *((name, c_double) for name in ("upper_arm", "forearm", "base_height", "shoulder_height", "wrist_height")),
        ("left", c_double * 11), ("below", c_double * 5), ("share", c_double), ("speeds", c_double * 4),
    ]  # fmt: skip


class Kernel:
    """The library, built in ``folder`` (None: the user's cache) if it is not there yet.

    Raises:
        NativeError: there is no C compiler, it fails, or what it makes does not load.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # Calls take microseconds: they keep Python's lock, for which they would wait longer.
        self.library = load(CLEARANCE, folder, keeps_lock=True)
        pointer, boxes, around = c_void_p, POINTER(_Boxes), POINTER(_Surroundings)
        arm, limits = POINTER(Arm), POINTER(_Limits)
        signatures = {
            "onestride_segment_distances": (c_int, pointer, boxes, pointer),
            "onestride_clearances": (*[c_int] * 3, *[pointer] * 3, around, *[pointer] * 2),
            "onestride_certified": (*[c_int] * 3, *[pointer] * 3, around, pointer, c_double, *[pointer] * 2),
            "onestride_arm_body": (arm, c_int, *[pointer] * 2),
            "onestride_arm_swept": (arm, limits, *[c_int] * 2, *[pointer] * 3, c_double, *[pointer] * 2),
            "onestride_arm_along": (arm, limits, *[c_int] * 3, *[pointer] * 4, c_double, *[pointer] * 4),
        }
        for name, arguments in signatures.items():
            try:
                function = getattr(self.library, name)
            except AttributeError as error:
                raise NativeError(f"what $CC made of {CLEARANCE.file.name} lacks {name}; name a C compiler") from error
            function.argtypes, function.restype = arguments, None

    def segment_distances(self, ends: np.ndarray, boxes: RoundedBoxes) -> np.ndarray:
        """Return distances from line segments (N, 2, 3) to the surfaces of boxes (N, M) [m], exactly.

        See ``shapes.segment_distances``.
        """
        n, m = len(ends), len(boxes)
        found, arrays = np.empty((n, m)), (_numbers(ends, n, 2, 3), *_parts(boxes))
        first, *places = map(_address, arrays)
        self.library.onestride_segment_distances(n, first, byref(_Boxes(m, *places)), _address(found))
        return found

    def clearances(self, motion: Motion, around: Surroundings) -> np.ndarray:
        """Return by how much each motion is clearer than it has to be, a lower bound (P,) [m].

        See ``certificate.clearances``.
        """
        least, (_read, arguments) = np.empty(len(motion.ends)), _arguments(motion, around)
        self.library.onestride_clearances(*arguments, _address(least))
        return least - ROUNDING

    def certified(self, motion: Motion, around: Surroundings) -> np.ndarray:
        """Return which motions have a certificate (P,), bool. See ``certificate.certified``."""
        p, (_read, arguments) = len(motion.ends), _arguments(motion, around)
        allowed, found = np.ascontiguousarray(motion.allowed, bool).reshape(p), np.empty(p, bool)
        self.library.onestride_certified(*arguments, ROUNDING, _address(allowed), _address(found))
        return found


class ArmMotions:
    """Motions of an arm whose body follows from where its hand is; see ``motions.Motions``.

    Args:
        kernel: that computes them.
        arm: its numbers.
        limits: what the reference may do.
    """

    def __init__(self, kernel: Kernel, arm: Arm, limits: PositionLimits) -> None:
        self._library, self._arm = kernel.library, byref(arm)
        numbers = limits.speed, limits.acceleration, limits.deceleration, limits.control_dt, SAME, BEYOND
        self._limits = byref(_Limits(tuple(limits.low), tuple(limits.high), *numbers))

    def body(self, positions: np.ndarray) -> np.ndarray:
        """See ``Motions.body``."""
        p = len(positions)
        positions, ends = _numbers(positions, p, 3), np.empty((p, CAPSULES, 2, 3))
        self._library.onestride_arm_body(self._arm, p, _address(positions), _address(ends))
        return ends

    def swept(
        self, here: np.ndarray, commands: np.ndarray, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``Motions.swept``."""
        p, j = commands.shape[:2]
        here, commands, velocity = _numbers(here, 3), _numbers(commands, p, j, 3), _numbers(velocity, 3)
        ends, allowed = np.empty((p, j + 1, CAPSULES, 2, 3)), np.empty(p, bool)
        self._library.onestride_arm_swept(
            self._arm, self._limits, p, j, _address(here), _address(commands), _address(velocity), elapsed,
            _address(ends), _address(allowed),
        )  # fmt: skip
        return ends, allowed

    def along(
        self, here: np.ndarray, paths: np.ndarray, paces: np.ndarray, count: int, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See ``Motions.along``."""
        p, n = paths.shape[:2]
        here, velocity = _numbers(here, 3), _numbers(velocity, 3)
        paths, paces = _numbers(paths, p, n, 3), _numbers(paces, p)
        commands, seconds = np.empty((p, count, 3)), np.empty(p)
        ends, allowed = np.empty((p, count + 1, CAPSULES, 2, 3)), np.empty(p, bool)
        self._library.onestride_arm_along(
            self._arm, self._limits, p, n, count, _address(here), _address(paths), _address(paces), _address(velocity),
            elapsed, _address(commands), _address(seconds), _address(ends), _address(allowed),
        )  # fmt: skip
        return commands, seconds, ends, allowed


def chosen(choice: Choice) -> Kernel | None:
    """Return what computes: C for this machine, or None for NumPy.

    Raises:
        ValueError: there is no such choice.
        NativeError: "native", and it cannot be built here.
    """
    if choice not in get_args(Choice):
        raise ValueError(f"there is no kernel {choice!r}; there are {', '.join(get_args(Choice))}")
    if choice == "numpy":
        return None
    found = _built()
    if isinstance(found, Kernel):
        return found
    if choice == "native":
        raise NativeError(str(found))
    return None


@cache
def _built() -> Kernel | NativeError:
    """Return the library, or why there is none: no compiler is asked twice."""
    try:
        return Kernel()
    except NativeError as error:
        return error


def _arguments(motion: Motion, around: Surroundings) -> tuple[tuple[np.ndarray, ...], tuple[Any, ...]]:
    """Return the arrays that C reads, which have to outlive its call, and a certificate's arguments."""
    p, t, k = motion.ends.shape[:3]
    w, m = len(around.walls), len(around.boxes)
    arrays = (
        _numbers(motion.ends, p, t, k, 2, 3), _numbers(motion.kept, p, k), _numbers(motion.seconds, p),
        np.empty(ROOM * t), _numbers(around.walls, w, 4), *_parts(around.boxes),
    )  # fmt: skip
    ends, kept, seconds, room, walls, *boxes = map(_address, arrays)
    given = _Surroundings(_Boxes(m, *boxes), w, walls, around.speed, around.age)
    return arrays, (p, t, k, ends, kept, seconds, byref(given), room)


def _parts(boxes: RoundedBoxes) -> tuple[np.ndarray, ...]:
    m = len(boxes)
    return (
        _numbers(boxes.center, m, 3), _numbers(boxes.turn, m, 3, 3), _numbers(boxes.half, m, 3),
        _numbers(boxes.rounding, m),
    )  # fmt: skip


def _numbers(array: np.ndarray, *shape: int) -> np.ndarray:
    """Return an array as C reads it. Of another shape than is expected it would be read beyond its end."""
    if array.shape != shape:
        raise ValueError(f"an array of shape {array.shape} where C reads {shape}")
    return np.ascontiguousarray(array, np.float64)


def _address(array: np.ndarray) -> int:
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # much sooner than what NumPy has for it
    except (TypeError, ValueError):  # it may not be written, or is empty
        return array.ctypes.data
