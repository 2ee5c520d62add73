"""C programs of ours built by this machine's C compiler, once, and kept in the user's cache.

The cache is ``$XDG_CACHE_HOME/onestride``, else ``~/.cache/onestride``. $CC and $CFLAGS are split into words as make
does. A library's name holds a digest of everything that it is made of and one of its own content, which is compared
before it is used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onestride.files import clear_abandoned, temporary_folder

if TYPE_CHECKING:
    import subprocess

COMPILERS = ("cc", "gcc", "clang")
#: What matters of /proc/cpuinfo: a cache in a shared home may serve several machines.
CPU_LINES = ("model name", "flags", "Features")
#: Where compilers look for more than they are told to, or write more; without them a build depends on its name alone.
LEAKS = (
    "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "LD_RUN_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "GCC_COMPARE_DEBUG",
    "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "CCC_OVERRIDE_OPTIONS", "SOURCE_DATE_EPOCH",
)  # fmt: skip
#: Flags by which a library that is loaded changes the arithmetic of the whole process: small numbers become 0.
UNSAFE = ("-Ofast", "-ffast-math", "-funsafe-math-optimizations")
#: A process of its own loads a new library first: one that brings a sanitizer, say, ends whoever loads it.
LOADS = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
LONGEST = 300.0  # of a build [s], which takes some seconds


class NativeError(OSError):
    """No compiler, or one that fails, or a processor without what was asked for; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """A C program that is built where it runs.

    Attributes:
        file: what is compiled. It may include the other files of its folder.
        makes: what users know it as, such as "the engine".
        instead: what else they may do where it cannot be built; the end of messages.
    """

    file: Path
    makes: str
    instead: str

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is built of."""
        return tuple(sorted(self.file.parent.iterdir()))


def load(source: Source, folder: Path | None = None, *, keeps_lock: bool = False) -> ctypes.CDLL:
    """Return the library, built if needed; one that is as it was built, and does not load all the same, is built again.

    Args:
        source: what it is built of.
        folder: see ``build``.
        keeps_lock: whether its calls keep Python's lock. Other threads wait for them then, and they for no other.

    Raises:
        NativeError: it cannot be built (``build``), or what is made does not load.
    """
    kind, path = ctypes.PyDLL if keeps_lock else ctypes.CDLL, build(source, folder)
    try:
        return kind(str(path))
    except OSError:
        with suppress(OSError):
            path.unlink()
        path = build(source, folder)
    try:
        return kind(str(path))
    except OSError as error:
        raise NativeError(
            f"{source.makes} was built, and cannot be loaded ({error}). Where nothing may be executed in "
            f"{path.parent}, name another folder in $XDG_CACHE_HOME; else check $CC and $CFLAGS, {source.instead}"
        ) from error


def build(source: Source, folder: Path | None = None) -> Path:
    """Return the library's file in ``folder`` (None: the user's cache), built if it is not there for this machine yet.

    Raises:
        NativeError: there is no compiler or it fails, or nothing can be written there.
    """
    instead = source.instead
    compiler, flags = _words("CC"), _words("CFLAGS")
    compiler = compiler or [next((c for c in COMPILERS if shutil.which(c)), "")]
    program = shutil.which(compiler[0])
    if program is None:
        raise NativeError(
            f"no C compiler: {compiler[0] or ', '.join(COMPILERS)} not found. Install one (Debian: apt install gcc), "
            f"name it in $CC, {instead}"
        )
    folder = folder or cache_folder(source)
    own = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    # Aligned loops: where they fall else is chance, and a decision some per cent faster or slower by it.
    options = ["-std=gnu11", "-O3", own, "-falign-loops=64", "-fPIC", "-shared", "-pthread"]
    options += [flag for flag in flags if flag not in UNSAFE]
    options += ["-fno-fast-math"]  # a number that is none has to be seen
    texts = [path.read_text() for path in source.files]
    machine = (sys.platform, platform.machine(), _c_library(), processor())
    made_of = (*texts, compiler, _programs(compiler), *options, *machine)
    stem = source.file.stem
    name = f"{stem}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}"
    for found in folder.glob(f"{name}-*.so"):
        if _named(found, name) == found.name:
            return found
        with suppress(OSError):  # cut short or altered; where it stays, it is passed over
            found.unlink()
    sys.stderr.write(f"onestride: building {source.makes} for this processor, once; it takes some seconds\n")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_abandoned(folder)
        beside = temporary_folder(folder / name)
        try:
            made = beside / f"{stem}.so"
            done = _run([*compiler, *options, str(source.file), "-o", str(made), "-lm"], instead, beside)
            if done.returncode or not made.exists():
                raise NativeError(
                    f"{shlex.join(compiler)} could not build {source.file.name}; check $CC and $CFLAGS, {instead}. "
                    f"It said: {done.stderr.strip()[-2000:] or 'nothing'}"
                )
            tried = _run([sys.executable, "-I", "-S", "-c", LOADS, str(made)], instead)
            if tried.returncode:
                said = (tried.stderr.strip().splitlines() or [f"exit {tried.returncode}"])[-1][-300:]
                raise NativeError(
                    f"{source.makes} was built, and cannot be loaded ({said}); check $CC and $CFLAGS, {instead}"
                )
            with made.open("rb") as file:
                os.fsync(file.fileno())
            target = folder / _named(made, name)
            os.replace(made, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except NativeError:
        raise
    except OSError as error:
        raise NativeError(
            f"{source.makes} is built once, in {folder}, which cannot be written ({error.strerror}); name another "
            f"folder in $XDG_CACHE_HOME, {instead}"
        ) from error
    return target


def cache_folder(source: Source) -> Path:
    """Return where this user's libraries are kept.

    Raises:
        NativeError: nothing says where: no $XDG_CACHE_HOME, no home folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # which its specification tells to ignore
        with suppress(RuntimeError):  # how pathlib says that a user has no home
            cache = Path.home() / ".cache"
    if cache.is_absolute():
        return cache / "onestride"
    raise NativeError(
        f"{source.makes} is built once and kept in the user's cache, and this user has no home folder; name a folder "
        f"that can be written in $XDG_CACHE_HOME, {source.instead}"
    )


def processor() -> str:
    """Return what /proc/cpuinfo says of this machine's processor as far as it matters here, a line each."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else [platform.processor()]
    return "\n".join(sorted({line for line in lines if line.startswith(CPU_LINES)}))


def _words(variable: str) -> list[str]:
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise NativeError(
            f"${variable} is {os.environ[variable]!r}, which a shell cannot split into words ({error})"
        ) from error


def _run(command: list[str], instead: str, temporary: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A compiler's run in its own words, not the user's language, with its temporary files in ``temporary``."""
    import subprocess  # a library that is built already needs none

    environment = {name: value for name, value in os.environ.items() if name not in LEAKS} | {"LC_ALL": "C"}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    try:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, timeout=LONGEST,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"{command[0]} does not run ({error}); name another C compiler in $CC, {instead}") from error


def _programs(words: list[str]) -> list[tuple[str, int, int]]:
    """Which programs the words of a command name, the compiler behind a wrapper too: path, size and time of change.

    Another version is another file; to ask for its version would start it at every start of an engine.
    """
    found = (shutil.which(word) for word in words)
    files = [Path(os.path.realpath(path)) for path in found if path is not None]
    return [(str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in files]


def _named(path: Path, name: str) -> str:
    """What a library of this content is called; "" where it cannot be read."""
    try:
        return f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.so"
    except OSError:
        return ""


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return "-".join(platform.libc_ver())
