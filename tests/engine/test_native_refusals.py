"""What the native engine refuses: what cannot be acted on, and what is no program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from onestride.compiling import COMPILERS
from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import fold
from onestride.engine.layout import HEADER, OPERATION
from onestride.engine.native import NativeError, NativeRunner, library
from onestride.engine.program import write_program
from onestride.engine.runners import RefusedError
from onestride.robot.control_spec import ObservationError
from onestride.tasks import TASKS
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in COMPILERS), reason="needs a C compiler, which machines to learn on have"
)


# ---- what cannot be acted on ----


def test_it_refuses_what_the_arms_check_refuses(make_arm_policy, arm_rows):
    policy, rng = make_arm_policy("student"), np.random.default_rng(0)
    runner = NativeRunner(write_program(fold(policy, draws=1)), 1)
    rows = arm_rows(400)
    obstacle = rng.integers(0, 4, 400)
    for row, k in zip(rows[:300], obstacle, strict=False):  # a goal beside or within an obstacle of any kind
        o = row[9 + 8 * k : 17 + 8 * k]
        o[0], o[4:7], o[7] = rng.integers(0, 3), rng.uniform(0.03, 0.1, 3), rng.uniform(-3, 3)
        o[1:4] = row[6:9] + rng.uniform(-0.07, 0.07, 3)
    for row in rows[300:]:
        row[6:9] += rng.uniform(-0.2, 0.2, 3)
    rows[0, 6:9], rows[1, 6:9] = WORKSPACE_LOW, WORKSPACE_HIGH  # on the border: inside
    for row in rows[:2]:
        row[9::8] = 0
    kinds = {"outside": 0, "inside an obstacle": 0, "": 0}
    for row in rows:
        said = ""
        try:
            policy.control.validate_observation(row)
        except ObservationError as error:
            said = "outside" if "outside" in str(error) else "inside an obstacle"
        kinds[said] += 1
        if said:
            with pytest.raises(RefusedError, match=said):
                runner.run(row.astype(np.float32), 0)
        else:
            runner.run(row.astype(np.float32), 0)
    assert min(kinds.values()) > 50


@pytest.mark.parametrize(
    ("kind", "half", "wrong"),
    [
        (1, (0.03, 0, 0), False), (2, (0.03, 0.02, 0.01), False), (0, (0, 0, 0), False), (3, (0.03, 0.03, 0.03), True),
        (1.001, (0.03, 0.03, 0.03), True), (-1, (0.03, 0.03, 0.03), True), (1, (-0.03, 0.03, 0.03), True),
        (1, (0, 0.03, 0.03), True), (2, (0.03, 0.03, 0), True),
    ],
)  # fmt: skip
def test_an_obstacle_of_no_kind_or_size_is_refused(make_arm_policy, arm_rows, kind, half, wrong):
    policy, row = make_arm_policy("student"), arm_rows(1)[0]
    row[9:] = 0
    row[17:25] = kind, 0.3, 0.0, 0.5, *half, 0.1
    runner = NativeRunner(write_program(fold(policy, draws=1)), 1)
    if wrong:
        with pytest.raises(ObservationError, match=r"obstacle 1 has kind .* expected kind 0 \(absent\)"):
            policy.control.validate_observation(row)
        with pytest.raises(RefusedError, match="no kind or size"):
            runner.run(row.astype(np.float32), 0)
    else:
        policy.control.validate_observation(row)
        runner.run(row.astype(np.float32), 0)


def test_what_engines_are_timed_by_can_be_acted_on(make_arm_policy):
    """And making it takes no time: an exported arm is to decide two seconds after its program starts."""
    policy = make_arm_policy("student")
    policy.control.validate_observation(policy.control.example)
    runner = NativeRunner(write_program(fold(policy, draws=1)), 1)
    assert np.isfinite(runner.run(policy.control.example.astype(np.float32), 0).score)
    for name, task in TASKS.items():
        if name != policy.task.name:
            made = task().control
            made.validate_observation(np.zeros(made.observation_dim) if made.example is None else made.example)


def test_the_engine_says_why_and_goes_on(make_arm_policy, make, observation, observations):
    engine = Engine.from_policy(make_arm_policy("student"), "native", threads=1, draws=2)
    wanted = engine.decide(observation).action
    for entry, value, said in ((6, 2.0, "outside the workspace"), (3, np.nan, r"observation\[3\] is nan; check")):
        bad = observation.copy()
        bad[entry] = value
        with pytest.raises(ObservationError, match=said):
            engine.decide(bad)
    with pytest.raises(ObservationError, match="shape"):
        engine.decide(observation[0])
    engine.reset()
    np.testing.assert_array_equal(engine.decide(observation).action, wanted)
    engine = Engine.from_policy(make(), "native", threads=1, draws=2)
    observations[0][5] = 1e39  # finite, but not in float32
    with pytest.raises(ObservationError, match=r"observation\[5\] is 1e\+39, beyond single precision"):
        engine.decide(observations[0])


def test_subnormal_numbers_are_there_again_after_a_decision(make):
    """Within one they count as 0: processors take a hundred times as long for them."""
    small = np.float32(1e-39)
    NativeRunner(write_program(fold(make(), draws=1)), 1).run(np.zeros(17, np.float32), 0)
    assert small * np.float32(0.5) > 0


# ---- refused ----


def test_what_is_no_program_is_refused(make):
    program = write_program(fold(make(), draws=1))
    for rubbish in (b"", b"\x00" * 500, program[:40], program[:-4], program + b"\x00" * 4, b"X" + program[1:]):
        with pytest.raises(NativeError, match=r"no program|no decision can be made"):
            NativeRunner(rubbish, 1)
    with pytest.raises(NativeError, match=r"is of version 4 .* version 6 is read here; export the policy again"):
        NativeRunner(program[:8] + b"\x04\x00\x00\x00" + program[12:], 1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cheetah", "cheetah, int8", "arm"])
def test_whatever_is_altered_in_a_program_nothing_breaks(make, make_arm_policy, tmp_path, task):
    """Every number of the header and of the operations, replaced by what leads elsewhere, in a process of its own."""
    policy = make_arm_policy("student") if task == "arm" else make(candidates=24)
    eight = "int8" in task and library().onestride_levels()
    program = write_program(fold(policy, draws=2), "int8" if eight else "float32")
    (tmp_path / "program.bin").write_bytes(program)
    code = (
        "import struct, sys, numpy as np\n"
        "from onestride.engine.native import NativeRunner, NativeError\n"
        f"whole = open({str(tmp_path / 'program.bin')!r}, 'rb').read()\n"
        f"end = {HEADER.size} + {OPERATION.size} * struct.unpack_from('<i', whole, 12)[0]\n"
        "refused = 0\n"
        "for at in range(8, end, 4):\n"
        "    for value in (-1, 0, 1, 2, 7, 10**4, 2**30, -(2**31)):\n"
        "        program = bytearray(whole)\n"
        "        struct.pack_into('<i', program, at, value)\n"
        "        try:\n"
        f"            NativeRunner(bytes(program), 1).run(np.zeros({policy.control.observation_dim}, np.float32), 0)\n"
        "        except (NativeError, ValueError, MemoryError):\n"
        "            refused += 1\n"
        "print(refused)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500


def test_other_tasks_and_rankings_are_sent_to_onnx_runtime(make, make_arm_policy):
    policy = make()
    policy.task = replace(policy.task, native=None)
    with pytest.raises(NoEngineError, match="no native engine; run it by ONNX Runtime"):
        Engine.from_policy(policy, "native", draws=1)
    assert preferred(policy) == "onnx"
    assert preferred(policy, int8=True) == "onnx-int8"
    with pytest.raises(NoEngineError, match="only critics and residual return models"):
        Engine.from_policy(make(selector="returns-unet"), "native", draws=1)
    assert preferred(make()) == preferred(make_arm_policy("student")) == "native"
