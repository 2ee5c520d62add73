"""The C program under sanitizers: no data race, nothing read or written outside, nothing undefined."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from onestride.engine.building import DECIDE
from onestride.engine.fold.policy import fold
from onestride.engine.native import library
from onestride.engine.program import write_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, named cc"),
]
DRIVER = Path(__file__).with_name("driver.c")
DECISIONS = "400"
#: A race that the sanitizer has to see, or an entry beyond an array: the compiler may accept the flag and do nothing.
WRONG = {
    "thread": """
#include <pthread.h>
static int shared;
static void* add(void* none) { shared++; return none; }
int main(void) {
  pthread_t other;
  pthread_create(&other, 0, add, 0);
  shared++;
  pthread_join(other, 0);
  return 0;
}
""",
    "address,undefined": """
int main(int count, char** words) {
  volatile int some[4] = {0};
  (void)words;
  return some[count + 3];
}
""",
}


def compiled(sanitizer, sources, out):
    command = ["cc", "-std=gnu11", "-O1", "-g", "-march=native", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command += ["-pthread", "-I", str(DECIDE.parent), *map(str, sources), "-o", str(out), "-lm"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module", params=list(WRONG))
def driver(request, tmp_path_factory):
    """The driver built with a sanitizer that is known to see what is wrong."""
    folder = tmp_path_factory.mktemp("sanitized")
    (folder / "wrong.c").write_text(WRONG[request.param])
    done = compiled(request.param, [folder / "wrong.c"], folder / "wrong")
    if done.returncode:
        pytest.skip(f"this compiler has no -fsanitize={request.param}: {done.stderr.strip()[-200:]}")
    said = run(folder / "wrong").stderr
    if "Sanitizer" not in said and "runtime error" not in said:
        pytest.skip(f"-fsanitize={request.param} sees nothing here: {said.strip()[-200:] or 'it is silent'}")
    if "unexpected memory mapping" in said:
        pytest.skip(f"-fsanitize={request.param} does not run on this kernel: {said.strip()[-200:]}")
    done = compiled(request.param, [DRIVER, DECIDE], folder / "driver")
    assert done.returncode == 0, done.stderr
    return folder / "driver"


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
