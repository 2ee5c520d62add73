"""The doctor is silent about healthy logs of the arm's demonstrator, and names the faults that are put into them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from onestride.doctor import timing
from onestride.doctor.diagnose import diagnose
from onestride.doctor.log import Log
from onestride.doctor.reference import Reference
from onestride.tasks.kinova import demonstrations
from onestride.tasks.kinova.control_spec import control_spec

SPEC = control_spec()
EPISODES = 33  # about a minute
LOGS = 20  # of each fault; 19 are 95 %


@pytest.fixture(scope="module")
def arm():
    """A reference, and other episodes that logs are made of."""
    episodes = [episode.observations.astype(np.float64) for episode in demonstrations.chunk(5, 0)[0]]
    half = len(episodes) // 2
    return Reference.of(SPEC, episodes[:half]), episodes[half:]


def make_log(episodes, seed, change=lambda rows: rows, dt=SPEC.control_dt):
    rng = np.random.default_rng(seed)
    parts = [change(episodes[i].copy()) for i in rng.choice(len(episodes), EPISODES, replace=False)]
    lengths = [len(part) for part in parts]
    times = np.concatenate([dt * np.arange(n) for n in lengths])
    return Log(times, np.concatenate(parts), np.repeat(np.arange(EPISODES), lengths))


def swap(rows):
    rows[:, [0, 1]] = rows[:, [1, 0]]
    return rows


def negate(rows):
    rows[:, 1] *= -1
    return rows


def millimetres(rows):
    rows[:, :3] *= 1e3
    return rows


def degrees(rows):
    rows[:, 16] *= 180 / np.pi  # the yaw of the first obstacle
    return rows


def shift(rows):
    rows[:, 0] += 0.15
    return rows


def delay(rows):
    rows[3:, 3] = rows[:-3, 3].copy()
    return rows


def hold(rows):
    rows[:, 1] = 0.1
    return rows


@pytest.mark.slow
def test_healthy_logs_are_silent(arm):
    reference, episodes = arm
    found = [diagnose(make_log(episodes, seed), reference, SPEC, blind=False).findings for seed in range(100, 180)]
    assert sum(map(bool, found)) <= 1, [str(finding) for findings in found for finding in findings]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "dt", "kind", "column"),
    [
        (swap, 0.05, "swapped", "position[0]"),
        (negate, 0.05, "negated", "position[1]"),
        (millimetres, 0.05, "units", "position[2]"),
        (degrees, 0.05, "units", "obstacle0_yaw"),
        (shift, 0.05, "shifted", "position[0]"),
        (delay, 0.05, "delayed", "velocity[0]"),
        (hold, 0.05, "constant", "position[1]"),
        (lambda rows: rows[::2], 0.05, "rate", None),  # every second one, and times that do not say so
        (lambda rows: rows[::2], 0.1, "rate", None),
        (partial(np.repeat, repeats=2, axis=0), 0.05, "repeated", "velocity[0]"),
    ],
)
def test_each_fault_is_found_and_named(arm, change, dt, kind, column):
    reference, episodes = arm
    named = 0
    for seed in range(LOGS):
        findings = diagnose(make_log(episodes, seed, change, dt), reference, SPEC).findings
        named += any(f.kind == kind and (column is None or column in f.columns) for f in findings)
    assert named >= 0.95 * LOGS


def test_a_wrong_rate_does_not_hide_another_fault(arm):
    reference, episodes = arm
    found = diagnose(make_log(episodes, 3, lambda rows: negate(rows)[::2], 0.1), reference, SPEC).findings
    assert [f.columns for f in found if f.kind == "negated"] == [("position[1]",)]
    assert [f.kind for f in found if not f.columns] == ["rate"]


def test_a_log_and_a_reference_meet_at_the_slower_ones_rate():
    """By straight lines, of which every row between two others is known."""
    line = np.arange(11.0)[:, None] * [1.0, -2.0]
    reference = Reference("line", 0.1, (line,))
    slow = [(0.2 * np.arange(6), line[::2])]
    pieces, met = timing.at_one_rate(slow, reference)
    assert (pieces, met.control_dt) == (slow, 0.2)
    np.testing.assert_allclose(met.episodes[0], line[::2])
    fast = [(0.04 * np.arange(26), 0.4 * np.arange(26.0)[:, None] * [1.0, -2.0])]
    ((times, rows),), met = timing.at_one_rate(fast, reference)
    assert met is reference
    np.testing.assert_allclose(times, 0.1 * np.arange(11))
    np.testing.assert_allclose(rows, line)


@pytest.mark.slow
def test_what_could_not_be_seen_is_said(arm):
    """Obstacles stand on both sides alike; a position's sign shows."""
    reference, episodes = arm
    found = diagnose(make_log(episodes, 1), reference, SPEC)
    assert found.findings == ()
    assert "obstacle0_center[1] negated" in found.blind
    assert "position[1] negated" not in found.blind


def test_a_reference_comes_back_as_it_was(arm, tmp_path):
    arm[0].save(tmp_path / "sample.safetensors")
    back = Reference.load(tmp_path / "sample.safetensors", SPEC)
    assert all(np.array_equal(a, b) for a, b in zip(back.episodes, arm[0].episodes, strict=True))
    assert (back.task, back.control_dt) == ("kinova", 0.05)
