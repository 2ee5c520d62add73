"""External zip files, such as .npz: sizes, names and kinds of their members are checked before any is read."""

from __future__ import annotations

import errno
import io
import json
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.claims import check_claim, in_short

ENCRYPTED = 0x1 | 0x40  # bits of a member's flags
CHUNK = 2**20  # unpacked at once [bytes]
SPOILT = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError)
#: What NumPy raises for a damaged header, which it parses as a Python literal.
SPOILT_HEADER = (ValueError, TypeError, RecursionError, MemoryError, SyntaxError, tokenize.TokenError)
NUMBERS = "fiub"  # kinds of dtype: floats, integers, bools


class Archive:
    """A zip file whose members were checked.

    Attributes:
        names: of the members.

    Raises:
        ValueError: members that no writer of arrays makes: encrypted, compressed by something other than deflate, with
            a repeated name or one that leads out of the folder, or larger than the file can hold.
    """

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self._file = file
        members = file.infolist()
        self.names = tuple(member.filename for member in members)
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f"it has more than one member named {twice[0]!r:.80}: it is unclear which one counts")
        for member in members:
            _check_member(member)
        if sum(member.compress_size for member in members) > size:
            raise ValueError("its members overlap or are larger than the file: it is damaged")
        check_claim("it", sum(member.file_size for member in members), size)

    def read(self, name: str) -> bytearray:
        """Return the bytes of a member, unpacked to at most the size that it claims.

        Raises:
            ValueError: there is no such member, or it unpacks to another size.
        """
        if name not in self._file.NameToInfo:
            raise ValueError(f"it has no member {name!r:.80}: it was altered")
        member = self._file.getinfo(name)
        found = bytearray()
        with self._file.open(member) as opened:
            while chunk := opened.read(CHUNK):
                found += chunk
        if len(found) != member.file_size:
            raise ValueError(f"{name!r:.80} has {len(found)} bytes, expected {member.file_size}: it is damaged")
        return found

    def read_array(self, name: str) -> np.ndarray:
        """Return the array of numbers in the member ``name``.npy.

        Raises:
            ValueError: the member is no array of numbers, or its header claims another size than the member has.
        """
        raw = self.read(f"{name}.npy")
        file = io.BytesIO(raw[:CHUNK])
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, by_columns, dtype = read(file)
        except KeyError as error:
            raise ValueError(f"{name!r:.80} is an .npy of a version that is not read: {error!s:.80}") from error
        except SPOILT_HEADER as error:
            raise ValueError(f"{name!r:.80} is no array ({error!s:.80})") from error
        if dtype.hasobject:
            raise ValueError(f"{name!r:.80} holds Python objects, which are not read (allow_pickle=False)")
        if dtype.kind not in NUMBERS:
            raise ValueError(f"{name!r:.80} holds {dtype!s:.80}, expected numbers")
        claimed, found = math.prod(shape) * dtype.itemsize, len(raw) - file.tell()
        if min(shape, default=0) < 0 or claimed != found:
            raise ValueError(f"{name!r:.80} claims {in_short(claimed)} bytes of {dtype}, found {found}: it is damaged")
        array = np.frombuffer(raw, dtype, offset=file.tell())
        return array.reshape(shape, order="F" if by_columns else "C")


@contextmanager
def open_archive(source: Path | bytes | bytearray) -> Iterator[Archive]:
    """Open an external zip file, or the bytes of one.

    The caller checks ``size_of_file`` first and adds the file's name to messages.

    Raises:
        ValueError: no zip file, a damaged one, or one that ``Archive`` refuses.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    try:
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as file:
            yield Archive(file, size)
    except SPOILT as error:
        raise ValueError(f"it was altered or cut short ({error!s:.120})") from error
    except OSError as error:
        spoilt = error.errno == errno.EINVAL  # a place before the file's beginning
        reason = "it was altered or cut short" if spoilt else "the system does not let it be read"
        raise ValueError(f"{reason} ({error.strerror})") from error


def array_names(archive: Archive) -> list[str]:
    """Return the names of an .npz file's arrays, sorted."""
    return sorted(name.removesuffix(".npy") for name in archive.names if name.endswith(".npy"))


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    if "\\" in name or name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
        raise ValueError(f"its member {name!r:.80} is named out of the folder")
    if member.flag_bits & ENCRYPTED:
        raise ValueError(f"its member {name!r:.80} is encrypted, which is not read: write it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"its member {name!r:.80} is compressed by method {member.compress_type}, expected deflate (8) or none (0)"
        )
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise ValueError(f"its member {name!r:.80} is stored, and has two sizes: it is damaged")


def parse_object(name: str, raw: bytes | bytearray) -> dict[str, Any]:
    """Return the settings in a member, a JSON object.

    Args:
        name: of the member, for messages.
        raw: its bytes.

    Raises:
        ValueError: no JSON object, or one that is nested too deeply.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{name}' is not the JSON of settings ({error!s:.120})") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected '{name}' to be an object of settings, got {type(found).__name__}")
    return found
