"""The C program under sanitizers: no data race, nothing read or written outside, nothing undefined."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onestride.engine.building import DECIDE
from onestride.engine.fold.policy import fold
from onestride.engine.native import library
from onestride.engine.program import write_program
from sanitizing import WRONG, run, sanitized

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, named cc"),
]
DRIVER = Path(__file__).with_name("driver.c")
DECISIONS = "400"


@pytest.fixture(scope="module", params=list(WRONG))
def driver(request, tmp_path_factory):
    return sanitized(request.param, [DRIVER, DECIDE], tmp_path_factory.mktemp("sanitized"))


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["student", "consistency"])
def test_decisions_of_two_threads_and_more_than_there_are_cores(driver, make, tmp_path, kind, precision):
    if precision == "int8" and not library().onestride_levels():
        pytest.skip("needs 8 bits")
    sizes = {"latent_dim": 32, "hidden": 40} if kind == "student" else {}
    folded = fold(make(kind, candidates=67, **sizes), draws=7, plan=True)
    (tmp_path / "program.bin").write_bytes(write_program(folded, precision))
    for threads in (2, 5):
        done = run(driver, tmp_path / "program.bin", DECISIONS, threads)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr == ""
