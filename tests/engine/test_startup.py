"""An exported folder decides, and a loop drives by it, without what only training needs."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from onestride.engine.export import export
from onestride.errors import EXTRAS
from without import python_without

#: A robot that is where it is told to be, its loop with a late decision in it, and one observation that is refused.
DRIVES = """
import json, sys, time
import numpy as np
from onestride import Engine
from onestride.robot.clock import RealClock
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.control.async_policy import AsyncPolicy
from onestride.robot.control_spec import ObservationError

class Robot:
    def __init__(self, first): self.at, self.told = first.copy(), []
    def read(self): return self.at
    def write(self, command): self.told.append(command)
    def stop(self): pass
    def fault(self): return None

class LateOnce:
    def __init__(self, engine): self.engine, self.number = engine, 0
    def decide(self, observation):
        self.number += 1
        if self.number == 4:
            time.sleep(0.06)
        return self.engine.decide(observation)

engine = Engine.from_folder(sys.argv[1], threads=1)
first = np.zeros(engine.control.observation_dim) if engine.control.example is None else engine.control.example
action = engine.decide(first).action
try:
    engine.decide(first * np.nan)
except ObservationError as error:
    refused = str(error)
robot, clock = Robot(first), RealClock()
with AsyncPolicy(LateOnce(engine), clock) as worker:
    timeouts = FallbackTimeouts(max_observation_age=0.3)
    log = run_episode(robot, clock, worker, engine.control, timeout=1.0, period=0.05, fallback_timeouts=timeouts)
files = {name.split(".")[0]: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
installed = {name for name, file in files.items() if "site-packages" in file}
wild = sum(count for why, count in log.refused.items() if why.startswith("late command refused"))
late = [log.late["plan"], wild, log.filled]
print(json.dumps([len(action), refused, log.executed, *late, len(robot.told), sorted(installed)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "task"),
    [
        ("native", "arm"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("native", "cheetah"), ("onnx", "arm"))),
    ],
)
def test_an_exported_folder_starts_and_drives_without_torch(make, make_arm_policy, tmp_path, form, task):
    if form == "native" and shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    policy = make() if task == "cheetah" else make_arm_policy("student", candidates=8)
    export(policy, tmp_path / "engine", form=form, draws=4, seed=0, checkpoint=None)
    done = python_without(set(EXTRAS) - {"onnxruntime"}, DRIVES, tmp_path / "engine")
    actions, refused, executed, planned, wild, filled, told, installed = json.loads(done.stdout)
    needed = {name for name in installed if name not in sys.stdlib_module_names and not name.startswith("_")}
    if form == "native":
        ours = {"numpy", "filelock", "msgspec", "safetensors", "onestride"}  # what is installed without extras
        assert needed - {"typing_extensions"} <= ours  # which msgspec takes where it is there
    assert actions == policy.control.action_dim
    assert "is nan" in refused
    assert planned + wild >= 1  # the late tick had the last plan's next row, out of limits where nobody trained it
    assert executed >= 5
    assert told == executed + filled
