"""An exported folder: whole or not there, checked when it is made and when it is loaded, and runnable alone."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onestride.cli import main
from onestride.engine import export as exporting
from onestride.engine.engine import Engine
from onestride.engine.export import ExportError, export
from onestride.engine.folder import CHECKSUMS, CONTRACT, GRAPH, load_contract
from onestride.files import CheckpointError
from onestride.methods.guided import GuidedPlanner
from onestride.policy.policy import Policy
from onestride.seals import sha256
from onestride.selectors.store import save_selector
from onestride.tasks import TASKS

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def checkpoint(make, tmp_path_factory):
    """A saved student of HalfCheetah, its selector within."""
    folder = tmp_path_factory.mktemp("run") / "dnk-0"
    make().save(folder, {"id": "abc"})
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """What the command wrote of it."""
    out = tmp_path_factory.mktemp("out") / "engine"
    main(["export", str(checkpoint), "--out", str(out), "--draws", "5", "--seed", "2"])
    return out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_full_disk_is_said_and_leaves_nothing(checkpoint, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "_written", full)
    said = refused(capsys, "export", checkpoint, "--out", tmp_path / "e")
    assert f"could not write {tmp_path / 'e'}, the disk is full; nothing was written" in said
    assert list(tmp_path.iterdir()) == []


def copied(exported, folder):
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def sealed(folder):
    """Checksums of what is there now."""
    names = [p.name for p in folder.iterdir() if p.name != CHECKSUMS]
    (folder / CHECKSUMS).write_text("".join(f"{sha256(folder / n)}  {n}\n" for n in names))


def test_the_folder_decides_as_the_checkpoint(exported, checkpoint, observations):
    engine = Engine.from_folder(exported, threads=1)
    policy = Policy.from_pretrained(checkpoint, seed=2)
    for observation in observations[:5]:
        found, wanted = engine.decide(observation), policy.decide(observation)
        np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
        np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)


def test_the_contract_says_what_it_is(exported, checkpoint):
    said = json.loads((exported / CONTRACT).read_text())
    layout = {"units": "", "layout": "as the environment gives them"}
    assert said["inputs"]["observation"] | {"units": ""} == {"dtype": "float32", "shape": [17]} | layout
    assert said["inputs"]["draw"]["high"] == 4
    assert said["outputs"]["action"]["low"] == [-1.0] * 6
    assert (said["task"], said["candidates"], said["draws"], said["seed"]) == ("halfcheetah-v5", 16, 5, 2)
    assert (said["control_hz"], said["precision"], said["selector"]) == (20.0, "float32", "iql")
    assert said["checkpoint"]["id"] == "abc"
    assert said["checkpoint"]["sha256"] == sha256(checkpoint / "model.safetensors")
    assert said["compared_with_the_policy"]["action_error_max"] < 1e-4
    assert sorted(p.name for p in exported.iterdir()) == [
        "README.md", "SHA256SUMS", "contract.json", "example.cpp", "example.py", "model.onnx",
    ]  # fmt: skip
    assert "std::array<float, 17> observation{" in (exported / "example.cpp").read_text()


@pytest.mark.slow
def test_the_example_needs_neither_this_library_nor_torch(exported, observations):
    code = (
        "import sys, json, runpy; sys.modules['torch'] = sys.modules['onestride'] = None\n"
        f"decide = runpy.run_path({str(exported / 'example.py')!r})['decide']\n"
        f"print(json.dumps(decide({observations[1].tolist()}, 6).tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    engine = Engine.from_folder(exported, threads=1)
    engine.reset(6)
    np.testing.assert_allclose(json.loads(out), engine.decide(observations[1]).action, atol=1e-6)


@pytest.mark.slow
def test_the_example_in_cpp_decides_as_the_engine_does(exported, tmp_path):
    """Against ONNX Runtime's own headers, which no wheel has: $ONNXRUNTIME_INCLUDE names their folder."""
    headers, compiler = os.environ.get("ONNXRUNTIME_INCLUDE"), shutil.which("g++")
    if not (headers and compiler):
        pytest.skip("needs g++ and ONNX Runtime's headers, in the folder that $ONNXRUNTIME_INCLUDE names")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    command = [compiler, "-std=c++17", "-Wall", "-Werror", f"-isystem{headers}", str(exported / "example.cpp")]
    command += [f"-L{tmp_path}", "-lonnxruntime", f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / "example")]
    subprocess.run(command, check=True)
    said = subprocess.run([tmp_path / "example"], cwd=exported, capture_output=True, text=True, check=True).stdout
    engine = Engine.from_folder(exported, threads=1)
    engine.reset(0)
    task = TASKS["halfcheetah-v5"]()
    first = task.first_observation(task.scenes(1, 0)[0])  # as the example has it
    wanted = [engine.decide(first).action for _ in said.splitlines()]
    found = [[float(word) for word in line.split("(")[0].split()] for line in said.splitlines()]
    assert len(found) == 5
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_another_selector_fewer_candidates_and_8_bits(checkpoint, make, tmp_path, capsys):
    save_selector(tmp_path / "returns", make(selector="returns").selector, "halfcheetah-v5")
    arguments = [
        "--selector",
        tmp_path / "returns",
        "--candidates",
        4,
        "--draws",
        2,
        "--precision",
        "int8",
        "--no-plan",
    ]
    main([str(a) for a in ["export", checkpoint, "--out", tmp_path / "out", *arguments]])
    said = json.loads((tmp_path / "out" / CONTRACT).read_text())
    assert (said["selector"], said["candidates"], said["precision"]) == ("ReturnSelector", 4, "int8")
    assert "decisions have the policy's winner" in capsys.readouterr().out
    decision = Engine.from_folder(tmp_path / "out", threads=1).decide(np.zeros(17))
    assert decision.scores.shape == (4,)
    assert decision.plan.shape == (0, 23)


# ---- refused when made ----


def test_what_is_there_is_not_overwritten(exported, checkpoint, capsys):
    before = (exported / GRAPH).read_bytes()
    assert "is there already" in refused(capsys, "export", checkpoint, "--out", exported)
    assert (exported / GRAPH).read_bytes() == before


def test_a_guided_teacher_is_refused(make, tmp_path, capsys):
    policy = make("teacher", selector="returns")
    policy.generator = GuidedPlanner(policy.generator, policy.selector.model, 2.0)
    policy.save(tmp_path / "teacher", {})
    message = refused(capsys, "export", tmp_path / "teacher", "--out", tmp_path / "out")
    assert "a guided teacher differentiates its return model" in message
    assert "run the policy itself" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_graph_that_decides_otherwise_is_not_written(make, tmp_path, monkeypatch):
    policy = make()
    honest = exporting.decision_module

    def wrong(policy, **settings):
        folded = honest(policy, **settings)
        folded.body.carry.weight[0] += 1.0
        return folded

    monkeypatch.setattr(exporting, "decision_module", wrong)
    with pytest.raises(ExportError, match="does not decide as the policy does"):
        export(policy, tmp_path / "out", draws=2, seed=0, checkpoint=None)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = refused(capsys, "export", checkpoint, "--out", tmp_path / "out")
    assert 'this needs onnx: pip install "onestride[export]"' in message
    assert list(tmp_path.iterdir()) == []


# ---- refused when loaded ----


@pytest.mark.parametrize("name", [GRAPH, CONTRACT, "example.py", "example.cpp"])
def test_an_altered_or_missing_file_is_refused(exported, tmp_path, name):
    folder = copied(exported, tmp_path / "e")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} was altered .* not what was exported; export it again"):
        Engine.from_folder(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read"):
        Engine.from_folder(folder)


def test_the_example_says_that_the_graph_was_cut_short(exported, tmp_path):
    folder = copied(exported, tmp_path / "e")
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes()[:1000])
    said = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    wanted = f"{folder / GRAPH} was altered or cut short: copy the folder again, or export it again\n"
    assert said.stderr == wanted


def test_a_graph_that_the_runtime_cannot_load_is_one_line(exported, tmp_path, capsys):
    folder = copied(exported, tmp_path / "e")
    (folder / GRAPH).write_bytes(b"no graph")
    assert f"{GRAPH} was altered" in refused(capsys, "run", "--checkpoint", folder)
    sealed(folder)
    said = refused(capsys, "run", "--checkpoint", folder)
    assert f"{folder / GRAPH}: ONNX Runtime {onnxruntime.__version__} cannot load it (" in said
    assert "export it again" in said


def test_a_folder_of_something_else_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="holds no exported engine"):
        Engine.from_folder(checkpoint)


@pytest.mark.parametrize(("entry", "value", "message"), [
    (("inputs", "observation", "shape"), [18], r"has observation \(17,\), its contract says \(18,\)"),
    (("task",), "hopper-v5", r"of task 'hopper-v5', its control specification of 'halfcheetah-v5'"),
    (("task",), "juggler", "of task 'juggler', its control specification of 'halfcheetah-v5'"),
    (("schema",), 2, "contract schema 2"),
    (("draws",), "4", r"Expected `int`, got `str` - at `\$\.draws`"),
    (("inputs", "observation", "shape"), 17, r"Expected `array`, got `int` - at `\$\.inputs\.observation\.shape`"),
    (("format",), "tensorrt", "format 'tensorrt', this version reads 1 and onnx, native"),
    (("format",), "native", "SHA256SUMS does not list contract.json and program.bin"),
])  # fmt: skip
def test_a_contract_of_another_graph_is_refused(exported, tmp_path, entry, value, message):
    folder = copied(exported, tmp_path / "e")
    said = json.loads((folder / CONTRACT).read_text())
    inner = said
    for key in entry[:-1]:
        inner = inner[key]
    inner[entry[-1]] = value
    (folder / CONTRACT).write_text(json.dumps(said))
    sealed(folder)
    with pytest.raises(CheckpointError, match=message):
        Engine.from_folder(folder, threads=1)


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "a/b", "..", ""])
def test_names_that_lead_out_of_the_folder_are_refused(exported, tmp_path, line):
    folder = copied(exported, tmp_path / "e")
    with (folder / CHECKSUMS).open("a") as f:
        f.write(f"{'0' * 64}  {line}\n")
    with pytest.raises(CheckpointError, match=r"SHA256SUMS, line \d+: expected the SHA-256 and the name"):
        Engine.from_folder(folder)


@pytest.mark.slow
def test_every_flipped_bit_of_the_list_is_refused(exported, tmp_path):
    folder = copied(exported, tmp_path / "e")
    path, whole = folder / CHECKSUMS, (folder / CHECKSUMS).read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=re.escape(str(folder))):
            load_contract(folder)


def test_a_provider_that_is_not_there_is_named(exported):
    with pytest.raises(ValueError, match=r"has no TensorrtExecutionProvider; it has .*CPUExecutionProvider"):
        Engine.from_folder(exported, provider="TensorrtExecutionProvider")
