"""Whose an error is: a user's to mend, told in one line, or a bug of ours, which shows where it is."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Packages that the runtime does without -> the extra of onestride that brings each.
EXTRAS = {
    "torch": "train", "lightning_fabric": "train", "gymnasium": "train", "minari": "train", "h5py": "train",
    "PIL": "train", "tyro": "train", "docstring_parser": "train", "rich": "train",
    "mujoco": "sim", "imageio": "sim", "mink": "sim", "scipy": "sim",
    "gymnasium_robotics": "tasks", "gym_pusht": "tasks", "ogbench": "tasks",
    "matplotlib": "report", "jinja2": "report", "imageio_ffmpeg": "report",
    "onnx": "export", "onnxruntime": "export", "onnxscript": "export",
    "openvino": "openvino",
    "pyarrow": "lerobot", "av": "lerobot",
    "daqp": "clearance",
    "websockets": "serve", "msgpack": "serve",
    "huggingface_hub": "hub",
    "viser": "viewer",
    "ray": "scale",
}  # fmt: skip
#: Packages that the program itself is made of: every extra that has a command brings them.
PROGRAM = ("tyro", "docstring_parser")
#: What torch says when there is no memory for something, on the CPU and on a GPU.
NO_MEMORY = ("can't allocate memory", "out of memory")


def install(extra: str) -> str:
    """Return the command that installs an extra, in quotes: zsh takes brackets for a pattern."""
    return f'pip install "onestride[{extra}]"'


def command_line(program: str = "onestride") -> str:
    """Return what was typed, for the record: the program with its arguments, as a shell takes them.

    Of an absolute path the part below the current folder is left, else its name: where it lay is this machine's affair.
    """
    return shlex.join([program, *map(_without_place, sys.argv[1:])])


def _without_place(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return argument
    here = Path.cwd()
    return f"{option}{equals}{path.relative_to(here) if path.is_relative_to(here) else path.name}"


@contextmanager
def naming_extras(extra: str | None = None) -> Iterator[None]:
    """Say of a package that is missing which extra of onestride brings it.

    extra: that brings the program's own packages (``PROGRAM``) too, of a command that needs no torch.

    Raises:
        ModuleNotFoundError: a package of ``EXTRAS`` is imported in this context and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        brings = extra if extra is not None and error.name in PROGRAM else EXTRAS[error.name]
        said = f"this needs {error.name}: {install(brings)}"
        raise ModuleNotFoundError(said, name=error.name) from error


@contextmanager
def report_user_errors(extra: str | None = None) -> Iterator[None]:
    """Print errors that a user can mend as one message on stderr and exit with code 2; a bug shows where it is.

    The system's own errors and missing packages are a user's to mend; of others, those that this program raises on
    purpose. extra: see ``naming_extras``.
    """
    try:
        with naming_extras(extra):
            yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough; the interpreter's last flush would fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as shells call it
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        if not (isinstance(error, (OSError, ModuleNotFoundError)) or on_purpose(error)):
            raise
        print(f"onestride: {_said_by(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(said in str(error) for said in NO_MEMORY)):
            raise
        print(f"onestride: memory is short; ask for less. It said: {str(error).splitlines()[0]}", file=sys.stderr)
        raise SystemExit(2) from None


def _said_by(error: Exception) -> str:
    """What an error says: the system's own in words of ours, any without its number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    place = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{place} cannot be used ({error.strerror})" if place else error.strerror


def on_purpose(error: Exception) -> bool:
    """Return whether a ``raise`` statement of this program made the error, here or in a process that it started.

    Errors of other libraries and of built-in functions are bugs of ours: we gave them what they cannot take.
    """
    if isinstance(remote := error.__cause__, Exception) and type(remote).__name__ == "_RemoteTraceback":
        lines = [line.strip() for line in str(remote).splitlines()]
        places = [i for i, line in enumerate(lines) if line.startswith('File "')]
        if not places:
            return False
        file, line = lines[places[-1]].split('"')[1], lines[places[-1] + 1]
    else:
        import traceback  # only where something is wrong

        frame = traceback.extract_tb(error.__traceback__)[-1]
        file, line = frame.filename, frame.line or ""
    script = getattr(sys.modules["__main__"], "__file__", None)  # a benchmark
    ours = Path(file).is_relative_to(Path(__file__).parent) or file == script
    return ours and line.startswith("raise ")
