"""Messages of openpi's protocol: msgpack with NumPy arrays in it.

An array is a map {"__ndarray__": True, "data": bytes, "dtype": "<f4", "shape": [...]}, a NumPy scalar is a map
{"__npgeneric__": True, "data": number, "dtype": "<f4"}. openpi's client writes these keys as bytes; keys that are
strings are read too, for clients in other languages. Types are numbers alone: nothing that is read can be executed.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from onestride.errors import naming_extras

if TYPE_CHECKING:
    from collections.abc import Mapping

with naming_extras():
    import msgpack

#: The types of numbers that are read, as NumPy writes them.
NUMBERS = re.compile(r"[<>=|]?(?:[iu][1248]|f[248]|b1|\?)")
#: A scalar of text, such as a prompt.
TEXT = re.compile(r"[<>=|]?U\d{1,9}")
MOST_AXES = 8
#: Of a map; of text [bytes].
MOST_KEYS, LONGEST_TEXT = 256, 65_536


class MessageError(ValueError):
    """Raised for a message that is not of the protocol. It is one line that says what was got and expected."""


def pack(value: Any) -> bytes:
    """Return a message: maps, lists, text, numbers and NumPy arrays of numbers.

    Raises:
        TypeError: something else is in it.
    """
    packed = msgpack.packb(value, default=_plain)
    assert packed is not None
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Return a message's map, whose arrays look into ``data``.

    Raises:
        MessageError: it is no such message. Sizes are bounded by the message's own.
    """
    try:
        found = msgpack.unpackb(
            data, object_hook=_array, max_map_len=MOST_KEYS, max_str_len=LONGEST_TEXT, max_ext_len=0,
        )  # fmt: skip
    except MessageError:
        raise
    except (ValueError, TypeError) as error:  # all that msgpack raises, and UnicodeDecodeError
        raise MessageError(f"the message of {len(data)} bytes is no msgpack map ({_line(error)})") from error
    if not isinstance(found, dict):
        raise MessageError(f"the message is a {type(found).__name__}, expected a map of the observation's fields")
    return {text_of(key): value for key, value in found.items()}


def _plain(value: Any) -> Any:
    """An array or a NumPy scalar as msgpack has it."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "fiub":
            kind = value.dtype.str
            if isinstance(value, np.ndarray):
                return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": kind, b"shape": value.shape}
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": kind}
        raise TypeError(f"an array of {value.dtype} cannot be sent, only one of numbers")
    raise TypeError(f"{type(value).__name__} cannot be sent; expected numbers, text, lists, maps or NumPy arrays")


def _array(given: dict[Any, Any]) -> Any:
    """What a map stands for: an array, a NumPy scalar, or itself."""
    if b"__ndarray__" in given or "__ndarray__" in given:
        data, kind, shape = _parts(given, "data", "dtype", "shape")
        return _ndarray(data, kind, shape)
    if b"__npgeneric__" in given or "__npgeneric__" in given:
        data, kind = _parts(given, "data", "dtype")
        if isinstance(kind, str) and TEXT.fullmatch(kind) and isinstance(data, str):
            return data
        if not (isinstance(kind, str) and NUMBERS.fullmatch(kind) and isinstance(data, int | float)):
            raise MessageError(f"a scalar has dtype {_short(kind)}, expected a number's, such as '<f4'")
        try:
            with np.errstate(all="ignore"):  # a number that is too large becomes infinite, and is refused later
                return np.dtype(kind).type(data)
        except (OverflowError, ValueError) as error:
            raise MessageError(f"a scalar is {_short(data)}, which is no {kind}") from error
    return given


def _ndarray(data: Any, kind: Any, shape: Any) -> np.ndarray:
    if not (isinstance(kind, str) and NUMBERS.fullmatch(kind)):
        raise MessageError(f"an array has dtype {_short(kind)}, expected numbers, such as '<f4' or '|u1'")
    whole = isinstance(shape, list | tuple) and all(type(n) is int and 0 <= n < 2**31 for n in shape)
    if not whole or len(shape) > MOST_AXES:
        raise MessageError(f"an array has shape {_short(shape)}, expected up to {MOST_AXES} whole numbers")
    dtype = np.dtype(kind)
    wanted = prod(shape) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != wanted:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise MessageError(f"an array of {kind} {_short(tuple(shape))} has {got} of data, expected {wanted} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _parts(given: Mapping[Any, Any], *names: str) -> list[Any]:
    found = [given.get(name.encode(), given.get(name)) for name in names]
    if any(part is None for part in found):
        raise MessageError(f"an array or scalar lacks one of {', '.join(names)}")
    return [part.decode("ascii", "replace") if n == "dtype" and isinstance(part, bytes) else part
            for n, part in zip(names, found, strict=True)]  # fmt: skip


def text_of(key: Any) -> str:
    """Return a map's key as text."""
    return key if isinstance(key, str) else bytes(key).decode("utf-8", "replace")


def _short(value: Any) -> str:
    """A value in a few characters: a message may hold anything."""
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."


def _line(error: Exception) -> str:
    """An error in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
