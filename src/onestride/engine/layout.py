"""How a native program lies in memory, for both who write it and who read it: ``python -m onestride.engine.layout``
writes ``c/layout.h`` of what stands here.

A program is a header, then operations, then numbers (float32), all little-endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from pathlib import Path
from textwrap import fill

MAGIC = b"ONESTRID"
#: Of the format. Programs of another version are refused.
VERSION = 6
MAX_BUFFERS = 16


class Kind(IntEnum):
    """What an operation does."""

    START = 0
    NOISE = 1
    NORM = 2
    PRODUCT = 3
    TIMES = 4
    CLAMP = 5
    SCORE = 6
    ARM = 7


class TaskKind(IntEnum):
    """What is done around the network: nothing, or the arm's frame and geometry."""

    PLAIN_TASK = 0
    ARM_TASK = 1


class Flag(IntFlag):
    """How an operation does it. KNOWN: its bias lies in what is computed once per decision."""

    SILU = 1
    KNOWN = 2
    EIGHT_BITS = 4
    ADD = 8


#: Of an operation, int32 each; ``scale``, a float, is behind them.
OPERATION_FIELDS = (
    "kind", "flags", "from", "from_column", "to", "to_column", "inputs", "outputs", "groups", "weight", "bias",
)  # fmt: skip
OPERATION = struct.Struct(f"<{len(OPERATION_FIELDS)}if")
#: Of the header, int32 each, behind the magic and the version; the buffers' widths are behind them.
FIELDS = (
    "operations", "buffers", "numbers", "task", "observation", "state", "inputs", "known", "candidates", "draws",
    "hidden", "noise", "features", "decoded", "action", "horizon", "known_weight", "known_bias", "offset", "noise_bank",
    "skip_bank", "handicap", "finish_weight", "finish_bias", "low", "high", "constants", "conditions", "asked",
    "ask_width", "ask_sizes", "ask_layers", "ask_weight",
)  # fmt: skip
HEADER = struct.Struct(f"<{len(MAGIC)}s{1 + len(FIELDS) + MAX_BUFFERS}i")
PATH = Path(__file__).parent / "c" / "layout.h"


def header_text() -> str:
    """Return the text of ``c/layout.h``."""
    return f"""/* How a program lies in memory: a header, operations, numbers. engine/layout.py writes this file. */

#ifndef ONESTRIDE_LAYOUT_H
#define ONESTRIDE_LAYOUT_H

#include <stdint.h>

#define MAGIC "{MAGIC.decode()}"

enum {{ VERSION = {VERSION}, MAX_BUFFERS = {MAX_BUFFERS} }};

{_enum(Kind)}
{_enum(TaskKind)}
{_enum(Flag)}

/* weight, bias: where in the numbers; -1: none. With KNOWN, bias is where in the known. */
typedef struct {{
{_members(OPERATION_FIELDS)}
  float scale;
}} Op;

typedef struct {{
  char magic[{len(MAGIC)}];
{_members(("version", *FIELDS))}
  int32_t width[MAX_BUFFERS]; /* of each buffer; buffer 0 holds the features */
}} Header;

_Static_assert(sizeof(Op) == {OPERATION.size} && sizeof(Header) == {HEADER.size}, "as engine/layout.py has them");

#endif
"""


def _enum(values: type[IntEnum] | type[IntFlag]) -> str:
    return f"enum {{ {', '.join(f'{each.name} = {each.value}' for each in values)} }};"


def _members(names: tuple[str, ...]) -> str:
    text = f"int32_t {', '.join(names)};"
    return fill(text, 120, initial_indent="  ", subsequent_indent="      ", break_long_words=False)


if __name__ == "__main__":
    PATH.write_text(header_text())
