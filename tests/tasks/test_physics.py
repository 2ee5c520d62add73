"""A renderer that is named but absent stops pictures, and nothing else."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
import numpy as np
import onestride
import onestride.reports.render, onestride.evaluation.evaluate
from onestride.tasks import TASKS
for name in ("kinova", "hopper-v5"):
    TASKS[name]()
from onestride.tasks.lockstep import make_environment
env = make_environment("Hopper-v5")
env.reset(seed=0)
env.step(env.action_space.sample())
from onestride.tasks.kinova.arm import build_model
from onestride.tasks.physics import no_renderer
build_model(np.zeros((4, 8)))
print(os.environ["MUJOCO_GL"], "|", no_renderer)
"""


def python(backend, *command):
    environment = os.environ | {"MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def without_mesa(tmp_path, monkeypatch):
    """A PyOpenGL that finds no library, as where osmesa is named and libosmesa6 is not installed."""
    (tmp_path / "OpenGL").mkdir()
    (tmp_path / "OpenGL" / "__init__.py").write_text("raise AttributeError(\"'NoneType' object has no attribute 'x'\")")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ("nonsense", "MUJOCO_GL=nonsense does not load: invalid value for environment variable"),
        ("osmesa", "MUJOCO_GL=osmesa does not load: 'NoneType' object has no attribute 'x'"),
    ],
)
def test_what_needs_no_picture_works(without_mesa, backend, why):
    done = python(backend, "-W", "error", "-c", CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{backend} | {why}")  # processes started later see what the user set


@pytest.mark.slow
def test_what_needs_a_picture_says_what_to_set(without_mesa):
    code = (
        "import numpy as np\nfrom onestride.tasks.kinova.scene import Scene\n"
        "from onestride.tasks.kinova.simulation import render_frames\n"
        "scene = Scene(np.zeros(3), np.ones(3), np.zeros((4, 8)))\n"
        "render_frames(scene, np.zeros((1, 7)), np.zeros(1), 8, 8, fps=1.0)"
    )
    done = python("osmesa", "-c", code)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: no renderer here (MUJOCO_GL=osmesa does not load: 'NoneType'")
    assert "set MUJOCO_GL=egl before Python starts (package libegl1)" in last


def test_the_program_answers():
    done = python("nonsense", "-m", "onestride", "--help")
    assert done.returncode == 0, done.stderr
