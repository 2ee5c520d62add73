"""``c/decide.c``, which ``compiling.py`` builds for this machine."""

from __future__ import annotations

from pathlib import Path

from onestride.compiling import Source, processor

#: What else there is where it cannot be built; the end of messages.
INSTEAD = "or run the engine by ONNX Runtime (--engine onnx)"
ENGINE = Source(Path(__file__).parent / "c" / "decide.c", "the engine", INSTEAD)
DECIDE, SOURCES = ENGINE.file, ENGINE.files


def widest() -> int:
    """Return how many floats this processor's widest vectors hold that ``c/vectors.h`` knows; 0 where that is not
    said."""
    flags = set(processor().split())
    return 16 if "avx512f" in flags else 8 if "avx2" in flags else 0
