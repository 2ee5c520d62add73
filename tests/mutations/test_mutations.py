"""Damaged files are refused by name, or read as what they were: never changed in silence, never waited for.

A case is a function of its reader and number: ``CASE=34 pytest tests/mutations -m slow -k pairs -s`` runs one alone.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("pyarrow")
sys.path.insert(0, str(Path(__file__).parent))

from mutators import mutate
from readers import READERS

HERE = Path(__file__).parent
SEED = 22
HANGS = 10.0  # [s]
SAMPLE = 8  # of each reader
ALL = int(os.environ.get("CASES", "3000"))  # of all together


EVERY = [pytest.param(reader, id=reader.name) for reader in READERS]


class Worker:
    """A process that reads, ended and begun again when it does not answer."""

    def __init__(self, bases):
        self.bases, self.process, self.meanings = bases, None, {}

    def ask(self, reader, root):
        if self.process is None:
            self._begin()
        answer = self._say({"reader": reader, "root": str(root)})
        if answer["verdict"] in ("hang", "died"):
            self.end()
        return answer

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def _begin(self):
        command = [sys.executable, str(HERE / "worker.py"), str(HERE.parent)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self._answer(120.0)  # its imports
        for number, (name, root) in enumerate(self.bases.items(), 1):
            copy = root.with_name(f"{root.name}-warm")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(root, copy)
            said = self._say({"reader": name, "root": str(copy), "limit": number == len(self.bases)}, 120.0)
            assert said["verdict"] == "read", f"{name} as it was written: {said}"
            self.meanings[name] = said["meaning"]

    def _say(self, request, patience=HANGS):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer(patience)

    def _answer(self, patience):
        if not select.select([self.process.stdout], [], [], patience)[0]:
            return {"verdict": "hang", "said": f"no answer in {patience} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"verdict": "died", "said": f"exit code {self.process.wait()}"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}
    for reader in READERS:
        if reader.name == "exported native" and shutil.which("cc") is None:
            continue
        root = tmp_path_factory.mktemp("bases") / reader.name.replace(" ", "-").replace("'", "")
        root.mkdir()
        reader.make(root)
        made[reader.name] = root
    return made


@pytest.fixture(scope="module")
def worker(bases):
    made = Worker(bases)
    yield made
    made.end()


def run_case(reader, number, bases, worker, folder):
    """Returns what is wrong with it, None where nothing is."""
    rng = np.random.default_rng([SEED, *reader.name.encode(), number])
    root = folder / f"case-{number}"
    shutil.copytree(bases[reader.name], root)
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")
    done = mutate(root, files, rng)
    answer = worker.ask(reader.name, root)
    shutil.rmtree(root)
    if "CASE" in os.environ:
        print(reader.name, done, answer)  # noqa: T201
    changed = answer["verdict"] == "read" and answer["meaning"] != worker.meanings[reader.name]
    if answer["verdict"] == "refused" or (answer["verdict"] == "read" and not (changed and reader.ours)):
        return None
    verdict = "silent change" if changed else answer["verdict"]
    return f"case {number}: {done}: {verdict}: {answer.get('said', '')}"


def run_cases(reader, numbers, bases, worker, folder):
    if reader.name not in bases:
        pytest.skip("needs a C compiler")
    wrong = [said for number in numbers if (said := run_case(reader, number, bases, worker, folder)) is not None]
    assert not wrong, f"{reader.name}, {len(wrong)} of {len(numbers)}:\n" + "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("reader", EVERY)
def test_a_sample_of_damaged_files(reader, bases, worker, tmp_path):
    run_cases(reader, range(SAMPLE), bases, worker, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", EVERY)
def test_damaged_files(reader, bases, worker, tmp_path):
    numbers = [int(os.environ["CASE"])] if "CASE" in os.environ else range(ALL // len(READERS) + 1)
    run_cases(reader, numbers, bases, worker, tmp_path)
