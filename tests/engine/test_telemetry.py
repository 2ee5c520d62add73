"""ONNX Runtime is loaded with its telemetry off, unless the user wants it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
#: In place of the library: it says what it would read.
FAKE = "import os\nprint(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"


@pytest.mark.parametrize("part", ["", "quantization"])
@pytest.mark.parametrize(("theirs", "seen"), [(None, "1"), ("0", "0"), ("", "")])
def test_it_is_off_before_the_library_loads_and_the_users_word_counts(tmp_path, part, theirs, seen):
    folder = tmp_path / "onnxruntime"
    folder.mkdir()
    (folder / "__init__.py").write_text(FAKE)
    (folder / "quantization.py").write_text("")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if theirs is None else {"ORT_DISABLE_TELEMETRY": theirs}
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), str(SOURCE)))
    code = f"from onestride.engine.runners import onnx_runtime; onnx_runtime({part!r})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{seen}\n"


@pytest.mark.slow
def test_every_import_of_it_is_the_one_that_turns_it_off():
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
            if any(name.split(".")[0] == "onnxruntime" for name in names):
                found.append(f"{path.name} imports it")
            elif called and "onnxruntime" in ast.unparse(node):
                found.append(path.name)
    assert found == ["runners.py"]
