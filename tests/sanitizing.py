"""C programs built with a sanitizer that is known to see what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

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


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)


def sanitized(sanitizer: str, sources: Sequence[Path], folder: Path) -> Path:
    """Return the program of a driver and the source that it calls; the test is skipped where the sanitizer is blind."""
    (folder / "wrong.c").write_text(WRONG[sanitizer])
    done = _compiled(sanitizer, [folder / "wrong.c"], folder, folder / "wrong")
    if done.returncode:
        pytest.skip(f"this compiler has no -fsanitize={sanitizer}: {done.stderr.strip()[-200:]}")
    said = run(folder / "wrong").stderr
    if "Sanitizer" not in said and "runtime error" not in said:
        pytest.skip(f"-fsanitize={sanitizer} sees nothing here: {said.strip()[-200:] or 'it is silent'}")
    if "unexpected memory mapping" in said:
        pytest.skip(f"-fsanitize={sanitizer} does not run on this kernel: {said.strip()[-200:]}")
    done = _compiled(sanitizer, sources, sources[-1].parent, folder / "driver")
    assert done.returncode == 0, done.stderr
    return folder / "driver"


def _compiled(sanitizer, sources, headers, out):
    command = ["cc", "-std=gnu11", "-O1", "-g", "-march=native", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command += ["-pthread", "-I", str(headers), *map(str, sources), "-o", str(out), "-lm"]
    return subprocess.run(command, capture_output=True, text=True, check=False)
