"""Values in a pickle, read opcode by opcode: nothing that it names is imported or called.

An object becomes a record of its class's name, its arguments and its state. Nothing is hashed, compared or printed,
because a few hundred bytes can nest values whose hash or text takes forever.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPCODES = 200_000  # most opcodes; a normaliser has hundreds, an actor's weights a thousand
MARKS = 100  # most containers that are open at once
BITS = 512  # longest integer; generators' states have 128 bits

CONSTANTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(eq=False)
class Named:
    """A class or function.

    Attributes:
        kind: its name, ``module.name``.
    """

    kind: str


@dataclass(eq=False, repr=False)
class Made:
    """A record in place of an object.

    Attributes:
        kind: name of its class or of the function that makes it.
        args: arguments.
        state: its state.
        items: its items with text keys.
    """

    kind: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[str, Any] = field(default_factory=dict)


def read_pickle(raw: bytes, known: Callable[[str], bool]) -> Any:
    """Return the values in a pickle.

    Objects become ``Made``, classes ``Named``. Dictionaries keep their text keys alone.

    Args:
        raw: the pickle.
        known: returns whether a name, ``module.name``, may occur.

    Raises:
        ValueError: no pickle, a name that is not known, an opcode that plain values do not need, or too many opcodes.
    """
    reader = _Reader(known)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
            if count > OPCODES:
                raise ValueError(f"it has more than {OPCODES} opcodes")
            if opcode.name == "STOP":
                return reader.stack.pop()
            reader.step(opcode.name, argument)
    except (IndexError, KeyError, TypeError, OverflowError) as error:  # an operand is missing, or is of another type
        raise ValueError("it is no pickle, or was altered") from error
    raise ValueError("it is cut short")


def describe(value: Any) -> str:
    """Return a short description of a value, however large it is."""
    if isinstance(value, Made | Named):
        return value.kind[:80]
    if isinstance(value, str):
        return repr(value[:80])
    short = isinstance(value, bool | float | None) or (isinstance(value, int) and value.bit_length() <= BITS)
    return repr(value) if short else type(value).__name__


def array_of(value: Any) -> np.ndarray:
    """Return a pickled array of floats, built from its bytes, shape and dtype.

    Raises:
        ValueError: the value is no such array, or its bytes have another length.
    """
    kind = value.kind if isinstance(value, Made) else ""
    parts = value.state[1:3] + value.state[4:5] if kind.endswith("._reconstruct") and _is_row(value.state, 5) else ()
    if kind.endswith("._frombuffer") and _is_row(value.args, 4):  # of protocol 5
        parts = (value.args[2], value.args[1], value.args[0])
    if not parts:
        raise ValueError(f"it holds {describe(value)}, expected an array")
    shape, dtype, raw = parts
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(n) is int and 0 <= n < 2**32 for n in shape):
        raise ValueError("it holds an array whose shape is none")
    if not isinstance(dtype, Made) or not _is_row(dtype.args, 1) or not _is_row(dtype.state, 2):
        raise ValueError(f"it holds an array {shape} of {describe(dtype)}")
    name, order = dtype.args[0], ">" if dtype.state[1] == ">" else "<"
    if name not in ("f4", "f8"):
        raise ValueError(f"it holds an array {shape} of {name[:20] if isinstance(name, str) else describe(name)}")
    if not isinstance(raw, bytes | bytearray) or len(raw) != math.prod(shape) * int(name[1]):
        raise ValueError(f"it holds an array {shape} of {name} whose bytes are of another length")
    return np.frombuffer(raw, order + name).reshape(shape).astype(order.replace(">", "<") + name)


def _is_row(value: Any, least: int) -> bool:
    return isinstance(value, tuple) and len(value) >= least


class _Reader:
    """A pickle machine that calls nothing: a stack, marks in it, and a memo."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        self.known = known
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in CONSTANTS:
            if isinstance(argument, int) and argument.bit_length() > BITS:
                raise ValueError(f"it holds an integer of {argument.bit_length()} bits")
            stack.append(argument)
        elif name in FIXED:
            stack.append(FIXED[name])
        elif name == "MARK":
            if len(self.marks) == MARKS:
                raise ValueError(f"more than {MARKS} containers are open in it at once")
            self.marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(argument)
        elif name not in ("PROTO", "FRAME"):
            self._build(name)

    def _name(self, argument: str | None) -> None:
        if argument is None:
            called, module = self.stack.pop(), self.stack.pop()
            kind = f"{module}.{called}" if isinstance(called, str) and isinstance(module, str) else ""
        else:
            kind = argument.replace(" ", ".", 1)
        if not self.known(kind):
            raise ValueError(f"it names {kind:.80}")
        self.stack.append(Named(kind))

    def _build(self, name: str) -> None:
        stack = self.stack
        if name in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            first = len(stack) - (0 if name == "EMPTY_TUPLE" else int(name[-1]))
            stack[first:] = [tuple(stack[first:])]
        elif name in ("EMPTY_LIST", "EMPTY_SET"):
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            values = self._since_mark()
            stack.append(values if name == "LIST" else tuple(values))
        elif name == "DICT":
            values = self._since_mark()
            stack.append({})
            self._set(values)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [stack.pop()] if name == "APPEND" else self._since_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._since_mark()
            self._set(values)
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Made):
                stack[-1].state = state
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                stack.pop()  # arguments by name
            args, of = stack.pop(), stack.pop()
            if not isinstance(of, Named) or not isinstance(args, tuple):
                raise ValueError(f"it makes an object of {describe(of)}")
            stack.append(Made(of.kind, args))
        elif name == "BINPERSID":
            stack.append(Made("persistent id", (stack.pop(),)))
        else:
            raise ValueError(f"it has the opcode {name}, which plain values do not need")

    def _since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def _set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Made) else target
        if isinstance(items, dict):
            items.update(
                {key: value for key, value in zip(values[::2], values[1::2], strict=False) if type(key) is str}
            )
