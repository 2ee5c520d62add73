"""Errors in a person's own file or module: told by its line, without the frames of this program."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary, extract_tb, format_list

from onestride.errors import on_purpose

HERE = Path(__file__).parent
#: Where Python's own files and installed packages lie.
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


class OwnCodeError(ValueError):
    """Raised for an error in code that a person plugged in; the message says in which line, and shows it."""


@contextmanager
def own_code() -> Iterator[None]:
    """Tell errors of the code that runs in this context by the line that it stands in.

    What this library says on purpose passes as it is, and so does a fault of its own.

    Raises:
        OwnCodeError: the code has a syntax error, imports what is not installed, or raised anything else.
    """
    try:
        yield
    except Exception as error:  # another's code raises what it likes
        frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
        while frames and (_within(frames[0], (HERE,)) or Path(frames[0].filename).parts[-2:-1] == ("importlib",)):
            frames = frames[1:]
        if isinstance(error, SyntaxError) and error.filename is not None:
            raise OwnCodeError(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}") from error
        if on_purpose(error) or not frames or any(_within(frame, (HERE,)) for frame in frames):
            raise
        where = next((frame for frame in reversed(frames) if not _within(frame, INSTALLED)), frames[-1])
        place = f"{where.filename}:{where.lineno}"
        if isinstance(error, ModuleNotFoundError):
            raise OwnCodeError(
                f"{place} imports '{error.name}', which is not there: install it beside onestride, in the same "
                "environment"
            ) from error
        shown = "".join(format_list(frames)).rstrip()
        raise OwnCodeError(f"{place} raised {type(error).__name__}: {error}\n{shown}") from error


def _within(frame: FrameSummary, folders: tuple[Path, ...]) -> bool:
    return any(Path(frame.filename).is_relative_to(folder) for folder in folders)
