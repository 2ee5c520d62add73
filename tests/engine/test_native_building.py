"""The library is built once, for this machine, of the files that the programs are written for."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onestride import compiling
from onestride.compiling import build
from onestride.engine import layout, native
from onestride.engine.backends import preferred
from onestride.engine.building import DECIDE, ENGINE, SOURCES
from onestride.engine.engine import Engine
from onestride.engine.native import NativeError, library
from onestride.files import temporary_folder
from onestride.robot.control_spec import ObservationError

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in compiling.COMPILERS), reason="needs a C compiler, which machines to learn on have"
)


@pytest.fixture
def quick(monkeypatch):
    """Builds that take a second, not ten."""
    monkeypatch.setenv("CFLAGS", "-O0")


@pytest.fixture
def builds(monkeypatch, quick):
    """How often the compiler was asked to build."""
    count, run = [], compiling._run

    def counted(command, instead, temporary=None):
        count.extend([command] * (temporary is not None))
        return run(command, instead, temporary)

    monkeypatch.setattr(compiling, "_run", counted)
    return count


@pytest.mark.slow
def test_it_is_built_once(tmp_path, builds):
    first = build(ENGINE, tmp_path)
    assert build(ENGINE, tmp_path) == first
    assert len(builds) == 1
    assert [p.name for p in tmp_path.iterdir()] == [first.name]
    ctypes.CDLL(str(first)).onestride_lanes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", [lambda b: b"", lambda b: b[:5000], lambda b: b[:-1], lambda b: b[:99] + b"x" + b[100:]]
)
def test_a_library_that_was_spoilt_is_built_again(tmp_path, builds, spoil):
    first = build(ENGINE, tmp_path)
    whole = first.read_bytes()
    first.unlink()  # not in its place: this process may have loaded it
    first.write_bytes(spoil(whole))
    assert library.__wrapped__(tmp_path).onestride_lanes() >= 4
    assert len(builds) == 2


@pytest.mark.slow
def test_a_library_that_does_not_load_is_built_again_and_then_said(tmp_path, builds, monkeypatch):
    load, failures = ctypes.CDLL, ["failed to map segment", "failed to map segment"]

    def fails(path):
        if failures:
            raise OSError(failures.pop())
        return load(path)

    monkeypatch.setattr(ctypes, "CDLL", fails)
    with pytest.raises(NativeError, match=r"cannot be loaded \(failed to map segment\).*XDG_CACHE_HOME"):
        library.__wrapped__(tmp_path)
    failures.append("invalid ELF header")
    assert library.__wrapped__(tmp_path).onestride_lanes() >= 4
    assert len(builds) == 3


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc -g0", "env gcc", "\"gcc\" '-m64'"])
def test_cc_is_split_as_make_does(tmp_path, monkeypatch, quick, compiler):
    monkeypatch.setenv("CC", compiler)
    assert build(ENGINE, tmp_path).exists()
    monkeypatch.setenv("CC", "gcc '")
    with pytest.raises(NativeError, match=r'\$CC is "gcc \'", which a shell cannot split'):
        build(ENGINE, tmp_path)


@pytest.mark.slow
def test_folders_that_compilers_search_are_not_searched(tmp_path, monkeypatch, quick):
    (tmp_path / "math.h").write_text("#error not this one")
    for name in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    assert build(ENGINE, tmp_path).exists()


def test_what_a_library_depends_on_is_in_its_name(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gcc", "cc"):
        (programs / name).write_text("one version")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    def compiler(command, instead, temporary=None):
        if "-o" in command:  # else it is the process that loads what was made
            Path(command[command.index("-o") + 1]).write_bytes(b"the same")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(compiling, "_run", compiler)
    names = {build(ENGINE, tmp_path).name}
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert {build(ENGINE, tmp_path).name} == names
    for name, value in (("CFLAGS", "-g0"), ("CC", "gcc -g0")):
        monkeypatch.setenv(name, value)
        names.add(build(ENGINE, tmp_path).name)
    for part in ("_c_library", "processor"):
        monkeypatch.setattr(compiling, part, lambda: "another")
        names.add(build(ENGINE, tmp_path).name)
    (programs / "gcc").write_text("another version")
    names.add(build(ENGINE, tmp_path).name)
    assert len(names) == 6


@pytest.mark.slow
def test_what_a_killed_build_left_is_cleared(tmp_path, quick):
    left = temporary_folder(tmp_path / "decide-0123")
    (left / "decide.so").write_bytes(b"half")
    for path in (left / "decide.so", left):
        os.utime(path, (0, 0))
    build(ENGINE, tmp_path)
    assert not left.exists()


def test_without_a_home_it_says_what_to_set_and_auto_runs_something_else(make, tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    pwd = pytest.importorskip("pwd")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(native, "library", library.__wrapped__)
    monkeypatch.setattr("onestride.engine.backends.library", library.__wrapped__)
    monkeypatch.delenv("HOME", raising=False)
    for cache in (None, "", "relative"):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if cache is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", cache)
        with pytest.raises(NativeError, match=r"no home folder; name a folder .* in \$XDG_CACHE_HOME"):
            Engine.from_policy(make(), "native", draws=1)
    assert preferred(make()) == "onnx"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiling.cache_folder(ENGINE) == tmp_path / "onestride"


@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_stays(tmp_path, monkeypatch, quick):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NativeError, match=r"cannot be written \(No space left on device\)"):
        build(ENGINE, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_library_with_narrower_vectors_than_the_processors_is_said(tmp_path, monkeypatch, quick, capsys):
    library.__wrapped__(tmp_path)
    assert "vectors" not in capsys.readouterr().err
    monkeypatch.setattr(native, "widest", lambda: 64)
    library.__wrapped__(tmp_path)
    assert "this processor has them of 64: decisions take longer" in capsys.readouterr().err


def test_where_it_cannot_be_written_it_says_where_else(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NativeError, match=r"built once, in .*file/cache, which cannot be written \(Not a directory\)"):
        build(ENGINE, tmp_path / "file" / "cache")


@pytest.mark.slow
def test_without_a_compiler_it_says_so_and_auto_runs_something_else(make, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    monkeypatch.setattr("onestride.engine.backends.library", lambda: library.__wrapped__(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NativeError, match=r"no-such-compiler not found.*apt install gcc"):
        Engine.from_policy(make(), "native", draws=1)
    assert "native" not in Engine.from_policy(make(), "auto", threads=1, draws=1).chosen
    assert preferred(make()) == "onnx"
    for broken in ("false", "true", "echo"):  # there, and fails, or makes nothing
        monkeypatch.setenv("CC", broken)
        with pytest.raises(NativeError, match=rf"{broken} could not build decide.c; .*or run the engine by ONNX"):
            Engine.from_policy(make(), "native", draws=1)


@pytest.mark.slow
def test_what_is_not_a_number_is_seen_whatever_flags_are_set(make, tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-Ofast")
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    engine, row = Engine.from_policy(make(), "native", threads=1, draws=1), np.zeros(17)
    engine.decide(row)
    row[3] = np.nan
    with pytest.raises(ObservationError):
        engine.decide(row)
    command = ["cc", "-std=gnu11", "-Ofast", "-march=native", "-c", str(DECIDE), "-o", str(tmp_path / "x.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "build without -ffast-math" in done.stderr


def test_the_committed_layout_is_the_generated_one():
    """Else: python -m onestride.engine.layout."""
    assert layout.PATH.read_text() == layout.header_text()
    assert layout.PATH in SOURCES


def test_refusals_are_those_of_the_c_file():
    codes = re.findall(r"ONESTRIDE_\w+ = (-\d+)", DECIDE.with_name("decide.h").read_text())
    assert [int(code) for code in codes] == list(native.REFUSALS)


ALTERED_BY_FLAGS = """
import sys
import numpy as np
from onestride.engine.native import NativeError, library
before = np.float32(1e-39) * np.float32(0.5)
try:
    library()
except NativeError as error:
    print(error)
    sys.exit(3)
sys.exit(int(before != np.float32(1e-39) * np.float32(0.5)))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="flags of gcc")
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ("-Ofast", 0), pytest.param("-ffast-math", 0, marks=pytest.mark.slow),
        pytest.param("-fsanitize=address", 3, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_flags_neither_change_the_processs_arithmetic_nor_end_it(tmp_path, flags, code):
    """A library linked with -Ofast flushes small numbers to 0 everywhere; one with a sanitizer ends the process."""
    environment = os.environ | {"CC": "gcc", "CFLAGS": flags, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", ALTERED_BY_FLAGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert code == 0 or "cannot be loaded" in done.stdout
