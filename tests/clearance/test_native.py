"""C computes what NumPy does: distances, certificates, the arm's motions, and what a filter sends in whole scenes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from onestride.clearance import FILTERS, kinova, native
from onestride.clearance.certificate import Motion, Surroundings, certified, clearances
from onestride.clearance.motions import NumpyMotions
from onestride.clearance.native import CLEARANCE, ArmMotions, chosen
from onestride.clearance.shapes import RoundedBoxes, segment_distances
from onestride.compiling import COMPILERS, NativeError
from onestride.studies.clearance_trials import BODIES, PLANS, Adversary, Recorded, random_scenes, trial
from onestride.tasks import TASKS
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import ABSENT, BOX, PILLAR, SPHERE
from sanitizing import run, sanitized

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")
CLOSE = 1e-12  # [m]
DRIVER = Path(__file__).with_name("driver.c")


@pytest.fixture(scope="module")
def kernel():
    return chosen("native")


def random_boxes(rng, count=6):
    rows = np.zeros((count, 8))
    rows[:, 0] = rng.choice([ABSENT, SPHERE, BOX, PILLAR], count)
    rows[:, 1:4], rows[:, 4:7] = rng.uniform(-0.6, 0.6, (count, 3)), rng.uniform(0.02, 0.2, (count, 3))
    rows[:, 7] = rng.uniform(0, np.pi, count) * (rows[:, 0] == BOX)
    return RoundedBoxes.of(rows)


def random_motion(rng, knots):
    p, k = rng.integers(1, 9), rng.integers(1, 9)
    ends = rng.uniform(-0.8, 0.8, (p, 1, k, 2, 3)) + rng.normal(scale=0.01, size=(p, knots, k, 2, 3)).cumsum(1)
    ends[:, :, 0, 1] = ends[:, :, 0, 0]  # a sphere
    kept = rng.uniform(0.0, 0.06, (p, k))
    allowed = rng.random(p) < 0.8
    return Motion(ends, ends[:, -1], kept, rng.uniform(0, 0.3, p), np.zeros((p, 1, 3)), allowed)


@needs_compiler
def test_distances_are_numpys(kernel):
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes, ends = random_boxes(rng), rng.uniform(-0.8, 0.8, (40, 2, 3))
        ends[:5, 1], ends[5:10, 1, :2] = ends[:5, 0], ends[5:10, 0, :2]  # points, upright
        np.testing.assert_allclose(
            kernel.segment_distances(ends, boxes), segment_distances(ends, boxes), rtol=0, atol=CLOSE
        )


@needs_compiler
@pytest.mark.parametrize("knots", [1, 2, 5])
def test_certificates_are_numpys(kernel, knots):
    rng, proved = np.random.default_rng(knots), []
    for _ in range(300):
        walls = np.concatenate((rng.normal(size=(3, 3)), rng.uniform(-1.5, -0.9, (3, 1))), 1)
        around = Surroundings(
            random_boxes(rng), walls[: rng.integers(1, 4)], rng.choice([0.0, 0.1]), rng.uniform(0, 0.1)
        )
        motion = random_motion(rng, knots)
        wanted = certified(motion, around)
        np.testing.assert_allclose(kernel.clearances(motion, around), clearances(motion, around), rtol=0, atol=CLOSE)
        np.testing.assert_array_equal(kernel.certified(motion, around), wanted)
        proved += wanted.tolist()
    assert 0.03 < np.mean(proved) < 0.9


@needs_compiler
@pytest.mark.parametrize("computed", ["native", "numpy"])
def test_what_is_not_a_number_has_no_certificate(kernel, computed):
    rng, found = np.random.default_rng(7), kernel.certified if computed == "native" else certified
    around = Surroundings(random_boxes(rng, 40), np.array([[0.0, 0, 1, -100]]), 0.0, 0.0)
    motion = random_motion(rng, 3)
    motion.allowed[:] = True
    far = Motion(motion.ends + 50.0, motion.last, motion.kept, motion.seconds, motion.commands, motion.allowed)
    assert found(far, around).all()
    for numbers in (far.ends, far.kept, far.seconds):
        before = numbers[-1].copy()
        numbers[-1:].flat[-1] = np.nan
        assert found(far, around).tolist() == [True] * (len(numbers) - 1) + [False]
        numbers[-1] = before


@needs_compiler
def test_the_arms_motions_are_numpys(kernel):
    filtered = FILTERS["kinova"](kernel="numpy")
    limits, steps = filtered.reference.limits, filtered.reference.steps
    numpy, c = NumpyMotions(kinova.body, kinova.seconds_between, limits), ArmMotions(kernel, kinova.ARM, limits)
    rng, allowed = np.random.default_rng(3), []
    for _ in range(300):
        here, n = rng.uniform(WORKSPACE_LOW - 0.02, WORKSPACE_HIGH + 0.02), rng.integers(1, 9)
        paths = here + rng.normal(scale=rng.choice([1e-3, 5e-3, 1e-2]), size=(8, n, 3)).cumsum(1)
        paces, velocity = rng.choice([1.0, 0.8, 0.1], 8), rng.normal(scale=0.05, size=3)
        paths[0], paths[1, 0], paths[2, -1] = here, here, paths[2, max(n - 2, 0)]  # no way, none at first, none at last
        paces[3:6] = 1.0
        paths[3] = here + np.array([limits.deceleration * limits.control_dt**2 + 5e-10, 0, 0])  # then rests, nearly
        paths[4] = here + velocity * limits.control_dt + np.array([5e-6, 0, 0])  # nearly as before, and at once
        paths[5] = rng.normal(size=(n, 3))  # far off
        given = here, paths, paces, steps, velocity, rng.choice([0.0, 0.4, 1.0])
        found, wanted = c.along(*given), numpy.along(*given)
        for one, other in zip(found[:3], wanted[:3], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=CLOSE)
        np.testing.assert_array_equal(found[3], wanted[3])
        np.testing.assert_array_equal(found[0][paces == 1, 0], paths[paces == 1, 0])  # as they are, to the last bit
        np.testing.assert_allclose(c.body(paths[0]), kinova.body(paths[0]), rtol=0, atol=CLOSE)
        allowed += wanted[3].tolist()
    assert 0.05 < np.mean(allowed) < 0.95


class Shadowed(Recorded):
    """A filter beside which another one is asked the same."""

    def begin(self):
        super().begin()
        self.other.begin()

    def observe(self, observation, time):
        super().observe(observation, time)
        self.other.observe(observation, time)

    def __call__(self, command, ahead, now):
        found, wanted = super().__call__(command, ahead, now), self.other(command, ahead, now)
        assert (found is None) == (wanted is None)
        if found is not None:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
        assert (self.proved, self.counts, self.violations) == (
            self.other.proved,
            self.other.counts,
            self.other.violations,
        )
        return found


@needs_compiler
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("plan", PLANS)
def test_a_filter_decides_the_same_by_both(name, plan):
    body, task, rng = BODIES[name], TASKS[name](), np.random.default_rng(1)
    (scene,) = random_scenes(body, 1, 20 + PLANS.index(plan))
    Shadowed.other = FILTERS[name](obstacle_speed=body.speed, kernel="numpy")
    clearance = Shadowed.of(FILTERS[name](obstacle_speed=body.speed, kernel="native"))
    made = trial(body, task, scene, Adversary(body, task, plan, rng), clearance, rng, moves=True, timeout=1.5)
    assert made.proved > 20
    assert made.broken == 0


@needs_compiler
def test_arrays_of_other_shapes_are_not_read(kernel):
    motion = random_motion(np.random.default_rng(0), 2)
    around = Surroundings(random_boxes(np.random.default_rng(0)), np.zeros((1, 4)), 0.0, 0.0)
    short = Motion(motion.ends, motion.last, motion.kept[:, :0], motion.seconds, motion.commands, motion.allowed)
    with pytest.raises(ValueError, match=r"an array of shape \(\d, 0\) where C reads"):
        kernel.clearances(short, around)


def test_without_a_compiler_numpy_computes(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(native, "_built", native._built.__wrapped__)
    assert FILTERS["kinova"]().kernel is None
    assert FILTERS["quadrotor"]().kernel is None
    with pytest.raises(NativeError, match=r'no-such-compiler not found.* or let NumPy compute \(kernel="numpy"\)'):
        FILTERS["kinova"](kernel="native")


def test_a_kernel_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no kernel 'cuda'; there are auto, native, numpy"):
        FILTERS["kinova"](kernel="cuda")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, named cc")
def test_flags_that_hide_what_is_not_a_number_are_refused(tmp_path):
    command = ["cc", "-std=gnu11", "-Ofast", "-c", str(CLEARANCE.file), "-o", str(tmp_path / "x.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "build without -ffast-math" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, named cc")
def test_nothing_is_read_or_written_outside(tmp_path):
    done = run(sanitized("address,undefined", [DRIVER, CLEARANCE.file], tmp_path), "2000")
    assert (done.returncode, done.stderr) == (0, "")
