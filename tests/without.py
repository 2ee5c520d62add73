"""Python in which some packages are not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: Before anything is imported: no finder finds a module of these packages, as where they are not installed.
BLOCKER = """
import sys

class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

BLOCKED = set({blocked})
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def python_without(
    packages: Iterable[str], code: str, *arguments: str | Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own where the packages are not installed."""
    code = BLOCKER.replace("{blocked}", repr(sorted(packages))) + code
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done
