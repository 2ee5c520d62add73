"""The library is built once, for this machine, of the files that the programs are written for."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

from onestride.engine import native, program
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.engine.native import NativeError, build, library
from onestride.tasks.interface import ObservationError

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in native.COMPILERS), reason="needs a C compiler, which machines to learn on have"
)


def test_it_is_built_once(tmp_path, monkeypatch):
    first = build(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("built again"))
    assert build(tmp_path) == first
    assert [p.name for p in tmp_path.iterdir()] == [first.name]
    ctypes.CDLL(str(first)).onestride_lanes()


def test_where_it_cannot_be_written_it_says_where_else(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NativeError, match=r"built once, in .*file/cache, which cannot be written \(Not a directory\)"):
        build(tmp_path / "file" / "cache")


def test_without_a_compiler_it_says_so_and_auto_runs_something_else(make, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    monkeypatch.setattr("onestride.engine.backends.library", lambda: library.__wrapped__(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NativeError, match=r"no-such-compiler not found.*apt install gcc"):
        Engine.from_policy(make(), "native", draws=1)
    assert "native" not in Engine.from_policy(make(), "auto", threads=1, draws=1).chosen
    assert preferred(make()) == "onnx"
    monkeypatch.setenv("CC", "false")  # there, and fails
    with pytest.raises(NativeError, match=r"could not build decide.c; run the engine by ONNX Runtime"):
        Engine.from_policy(make(), "native", draws=1)


def test_what_is_not_a_number_is_seen_whatever_flags_are_set(make, tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-Ofast")
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    engine, row = Engine.from_policy(make(), "native", threads=1, draws=1), np.zeros(17)
    engine.decide(row)
    row[3] = np.nan
    with pytest.raises(ObservationError):
        engine.decide(row)
    command = ["cc", "-std=gnu11", "-Ofast", "-march=native", "-c", str(native.DECIDE), "-o", str(tmp_path / "x.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "build without -ffast-math" in done.stderr


def test_constants_are_those_of_the_c_file():
    """What program.py writes is what decide.c reads."""
    text = native.DECIDE.with_name("program.h").read_text()
    assert "enum { START, NOISE, NORM, PRODUCT, TIMES, CLAMP, SCORE, ARM };" in text
    flags = ("SILU", "KNOWN", "EIGHT_BITS", "ADD", "SCREENED", "BOUND", "REST")
    assert f"enum {{ {', '.join(f'{name} = {getattr(program, name)}' for name in flags)} }};" in text
    assert f"VERSION = {native.VERSION}, MAX_BUFFERS = {program.MAX_BUFFERS} " in text
    head = text[text.index("char magic[8];") : text.index("int32_t width[MAX_BUFFERS]")]
    names = re.findall(r"\w+", re.sub(r"/\*.*?\*/|int32_t|char magic\[8\]", "", head, flags=re.DOTALL))
    assert names == ["version", *native.FIELDS]
    assert program.OPERATION.size == 48
