"""A native folder: a program and the C file that runs it, which a compiler alone turns into decisions."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

from onestride.cli import main
from onestride.engine import native
from onestride.engine.engine import Engine
from onestride.engine.folder import CONTRACT, PROGRAM
from onestride.files import CheckpointError
from onestride.policy.policy import Policy
from onestride.tasks import TASKS

#: Where the examples begin.
FIRST = [float(f"{x:.6g}") for x in TASKS["halfcheetah-v5"]().first_observation(0)]
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def checkpoint(make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "dnk-0"
    make().save(folder, {"id": "abc"})
    return folder


@pytest.fixture(scope="module", params=["--plan", "--no-plan"])
def exported(checkpoint, tmp_path_factory, request):
    out = tmp_path_factory.mktemp("out") / "engine"
    options = ["--format", "native", "--draws", "5", "--seed", "2", request.param]
    main(["export", str(checkpoint), "--out", str(out), *options])
    return out


def test_the_folder_decides_as_the_checkpoint(exported, checkpoint, observations):
    engine, policy = Engine.from_folder(exported, threads=1), Policy.from_pretrained(checkpoint, seed=2)
    assert engine.chosen == "native, 1 thread"
    for observation in observations[:5]:
        found, wanted = engine.decide(observation), policy.decide(observation)
        np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
        if len(found.plan):
            np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)


def test_what_is_in_it(exported):
    said = json.loads((exported / CONTRACT).read_text())
    assert (said["format"], said["precision"], said["opset"]) == ("native", "float32", None)
    assert said["compared_with_the_policy"]["action_error_max"] < 1e-4
    assert ("plan" in said["outputs"]) == (len(Engine.from_folder(exported, threads=1).decide(np.zeros(17)).plan) > 0)
    assert sorted(p.name for p in exported.iterdir()) == [
        "README.md", "SHA256SUMS", "arm.h", "contract.json", "decide.c", "decide.h", "eight_bits.h", "example.c",
        "example.py", "layout.h", "memory.h", "operations.h", "products.h", "program.bin", "program.h", "rounds.h",
        "vectors.h",
    ]  # fmt: skip


def wanted(exported):
    engine = Engine.from_folder(exported, threads=1)
    return [engine.decide(np.array(FIRST)).action for _ in range(5)]


@pytest.mark.slow
def test_the_example_in_c_decides_as_the_engine_does(exported, tmp_path):
    command = ["cc", "-std=gnu11", "-O1", "-march=native", "-Wall", "-Werror", "-pthread"]
    folder = shutil.copytree(exported, tmp_path / "e")
    sources = [str(folder / "example.c"), str(folder / "decide.c")]
    subprocess.run([*command, *sources, "-o", str(folder / "example"), "-lm"], check=True)
    shutil.copy(folder / "example", tmp_path / "example")
    for program, current in ((folder / "example", tmp_path), (tmp_path / "example", exported)):  # beside it, or here
        said = subprocess.run([program], cwd=current, capture_output=True, text=True, check=True).stdout
        found = [[float(word) for word in line.split("(")[0].split()] for line in said.splitlines()]
        np.testing.assert_allclose(found, wanted(exported), atol=1e-5)
    assert subprocess.run([tmp_path / "example"], cwd=tmp_path, capture_output=True, check=False).returncode == 1


@pytest.mark.slow
def test_the_example_in_python_needs_neither_this_library_nor_a_runtime(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "e")
    (folder / f"decide-{platform.node()}.so").write_bytes(b"what somebody left there")
    code = (
        "import sys, json, runpy; sys.modules.update(dict.fromkeys(['torch', 'onestride', 'onnxruntime']))\n"
        f"decide = runpy.run_path({str(folder / 'example.py')!r})['decide']\n"
        f"print(json.dumps([decide({FIRST}, i).tolist() for i in range(5)]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(json.loads(out), wanted(exported), atol=1e-6)


@pytest.mark.parametrize("name", [PROGRAM, CONTRACT, "decide.c", "example.c"])
def test_an_altered_file_is_refused(exported, tmp_path, name):
    folder = shutil.copytree(exported, tmp_path / "e")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} was altered .* not what was exported; export it again"):
        Engine.from_folder(folder)


def test_the_example_in_python_says_that_the_program_was_cut_short(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "e")
    (folder / PROGRAM).write_bytes((folder / PROGRAM).read_bytes()[:1000])
    said = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=False)
    wanted = f"{folder / PROGRAM} was altered or cut short: copy the folder again, or export it again\n"
    assert (said.returncode, said.stderr) == (1, wanted)


def test_without_a_compiler_the_command_says_what_to_do(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(checkpoint), "--format", "native", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "no-such-compiler not found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_arm_too(make_arm_policy, observation, tmp_path):
    policy = make_arm_policy("student")
    policy.save(tmp_path / "dnk-0", {})
    native = ["export", str(tmp_path / "dnk-0"), "--format", "native"]
    main([*native, "--precision", "int8", "--out", str(tmp_path / "int8")])
    main([*native, "--out", str(tmp_path / "out"), "--draws", "2"])
    policy.reset(0)
    wanted, found = policy.decide(observation), Engine.from_folder(tmp_path / "out", threads=1).decide(observation)
    np.testing.assert_allclose(found.action, wanted.action, atol=1e-6)
    np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)
    assert Engine.from_folder(tmp_path / "int8", threads=1).chosen == "native-int8, 1 thread"
