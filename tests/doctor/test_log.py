"""Logs are bound by name and unit, refused in words, and the command's exit code says whether anything is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.commands.doctor import Doctor
from onestride.doctor.log import Log, read_log, write_log
from onestride.doctor.reference import Reference
from onestride.robot.fields import columns_of
from onestride.tasks.kinova.control_spec import control_spec

SPEC = control_spec()
NAMES = [column.name for column in columns_of(SPEC)]


def episode(seed):
    """A swing about a goal of its own, with the velocity that belongs to it."""
    rng = np.random.default_rng(seed)
    t = 0.05 * np.arange(80)[:, None] + rng.uniform(0, 6)
    rows = np.zeros((80, SPEC.step_dim))
    pace = np.array([2.0, 3.0, 2.5])
    rows[:, :3] = [0.4, 0.0, 0.2] + [0.1, 0.2, 0.05] * np.sin(pace * t)
    rows[1:, 3:6] = np.diff(rows[:, :3], axis=0) / 0.05
    rows[:, 6:9] = rng.uniform([0.3, -0.3, 0.1], [0.5, 0.3, 0.3])
    return rows


def log_of(seeds, change=lambda rows: rows):
    parts = [change(episode(seed)) for seed in seeds]
    return Log(np.tile(0.05 * np.arange(80), len(parts)), np.concatenate(parts), np.repeat(np.arange(len(parts)), 80))


def write_csv(path, titles, log):
    rows = np.column_stack((log.times, log.episodes, log.observations))
    np.savetxt(path, rows, delimiter=",", header=",".join(["time", "episode", *titles]), comments="")


def test_a_log_comes_back_as_it_was_written(tmp_path):
    log = log_of(range(3))
    write_log(tmp_path / "log.npz", log, SPEC)
    back = read_log(tmp_path / "log.npz", SPEC)
    assert np.array_equal(back.observations, log.observations)
    assert np.array_equal(back.times, log.times)
    assert len(back.pieces()) == 3


def test_columns_are_bound_by_name(tmp_path):
    log, order = log_of(range(2)), np.random.default_rng(0).permutation(len(NAMES))
    mixed = Log(log.times, log.observations[:, order], log.episodes)
    write_csv(tmp_path / "log.csv", [NAMES[i] for i in order], mixed)
    back = read_log(tmp_path / "log.csv", SPEC)
    assert np.allclose(back.observations, log.observations)
    assert "another order" in back.notes[0]


@pytest.mark.parametrize(
    ("title", "said"),
    [("position[0] [mm]", r"in \[mm\], the policy expects \[m\]"), ("x", r"lacks the columns \['position\[0\]'\]")],
)
def test_unknown_names_and_units_are_refused(tmp_path, title, said):
    write_csv(tmp_path / "log.csv", [title, *NAMES[1:]], log_of(range(2)))
    with pytest.raises(ValueError, match=said):
        read_log(tmp_path / "log.csv", SPEC)


def test_times_that_go_back_are_refused(tmp_path):
    log = log_of(range(2))
    write_log(tmp_path / "log.npz", Log(log.times, log.observations, np.zeros(160)), SPEC)
    with pytest.raises(ValueError, match=r"row 80 has time 0 s after 3\.95 s"):
        read_log(tmp_path / "log.npz", SPEC)


@pytest.mark.slow
def test_the_exit_code_says_whether_anything_is_wrong(tmp_path, capsys):
    Reference.of(SPEC, [episode(seed) for seed in range(60)]).save(tmp_path / "sample.safetensors")

    def negated(rows):
        rows[:, 4] *= -1
        return rows

    write_log(tmp_path / "good.npz", log_of(range(60, 75)), SPEC)
    write_log(tmp_path / "bad.npz", log_of(range(60, 75), negated), SPEC)
    command = {"task": "kinova", "reference": tmp_path / "sample.safetensors"}
    Doctor(tmp_path / "good.npz", **command)()
    assert "nothing found" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        Doctor(tmp_path / "bad.npz", **command)()
    assert ended.value.code == 1
    assert "negated: velocity[1]" in capsys.readouterr().out
