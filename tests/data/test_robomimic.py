"""Robomimic's files: demonstrations as they were written, filter keys, both endings, and what is refused in a line."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from onestride.data.adapters import Keys, read_episodes
from onestride.data.minari import read_dataset
from onestride.data.recording import read_recording
from onestride.data.robomimic import LOW_DIM, is_robomimic, read_robomimic
from onestride.robot.fields import Field, camera
from onestride.runs.ingest import import_dataset
from onestride.tasks import TASKS

SIZES = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 10}
CAMERA = "agentview_image"


def demonstration(seed, steps):
    rng = np.random.default_rng(seed)
    seen = {key: rng.normal(size=(steps + 1, size)) for key, size in SIZES.items()}
    seen[CAMERA] = rng.integers(0, 256, (steps + 1, 8, 10, 3), dtype=np.uint8)
    return seen, rng.uniform(-1, 1, (steps, 7))


def write(path, lengths=(4, 1, 6), done=True, after=True, compression=None):
    """A file of demonstrations; returns what was observed and done in each."""
    made = [demonstration(i, steps) for i, steps in enumerate(lengths)]
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for i, (seen, actions) in enumerate(made):
            group = data.create_group(f"demo_{i}")
            group.attrs["num_samples"] = len(actions)
            group.attrs["model_file"] = "<mujoco/>"
            ends = np.zeros(len(actions))
            ends[-1] = done
            columns = {"actions": actions, "rewards": ends, "dones": ends.astype(np.int64)}
            columns |= {f"obs/{key}": value[:-1] for key, value in seen.items()}
            if after:
                columns |= {f"next_obs/{key}": value[1:] for key, value in seen.items()}
            for key, value in columns.items():
                group.create_dataset(key, data=value, compression=compression)
        file.create_dataset("mask/train", data=np.array(["demo_2", "demo_0"], dtype="S"))
        file.create_dataset("mask/better", data=np.array(["demo_1"], dtype="S"))
    return made


def flat(seen):
    return np.concatenate([seen[key] for key in LOW_DIM], 1).astype(np.float32)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_demonstrations_are_read_as_they_were_written(tmp_path, compression):
    made = write(tmp_path / "image.hdf5", lengths=(4, 1, 11) + (2,) * 9, compression=compression)
    found = list(read_robomimic(tmp_path / "image.hdf5", cameras=[CAMERA]))
    assert len(found) == 12  # demo_2 before demo_10
    for episode, (seen, actions) in zip(found, made, strict=True):
        np.testing.assert_array_equal(episode.observations, flat(seen))
        np.testing.assert_array_equal(episode.images[CAMERA], seen[CAMERA])
        np.testing.assert_array_equal(episode.actions, actions.astype(np.float32))
        assert episode.terminated
        assert episode.rewards[-1] == 1


def test_a_filter_key_chooses_and_keeps_the_order(tmp_path):
    made = write(tmp_path / "ph.hdf5")
    found = list(read_episodes(tmp_path / "ph.hdf5", keys=Keys(filter_key="train")))
    assert [len(e) for e in found] == [4, 6]
    np.testing.assert_array_equal(found[1].actions, made[2][1].astype(np.float32))
    assert not found[0].images
    with pytest.raises(ValueError, match="has no filter key 'valid'; it has better, train"):
        list(read_episodes(tmp_path / "ph.hdf5", keys=Keys(filter_key="valid")))


def test_without_next_obs_a_done_demonstration_repeats_its_last_observation_and_another_is_cut(tmp_path):
    made, notes = write(tmp_path / "a.hdf5", after=False), []
    for episode, (seen, _) in zip(read_robomimic(tmp_path / "a.hdf5"), made, strict=True):
        np.testing.assert_array_equal(episode.observations, flat(seen)[[*range(len(episode)), len(episode) - 1]])
    made = write(tmp_path / "b.hdf5", after=False, done=False)
    found = list(read_robomimic(tmp_path / "b.hdf5", notes=notes))
    assert [len(e) for e in found] == [3, 5]  # one had a single step
    np.testing.assert_array_equal(found[0].observations, flat(made[0][0])[:4])
    assert not found[0].terminated
    assert notes == ["1 of 3 demonstrations have a single step, of which nobody knows what it led to"]


def test_the_format_and_its_rate_are_detected(tmp_path):
    write(tmp_path / "a.hdf5")
    assert is_robomimic(tmp_path / "a.hdf5")
    assert read_recording(tmp_path / "a.hdf5").rate == 20
    assert len(list(read_episodes(tmp_path / "a.hdf5"))) == 3


def change(path, key, value):
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data/demo_1/obs/object", None, "demo_1 has no obs/object; its observations are agentview_image"),
        ("data/demo_0/rewards", np.zeros(3), "demo_0: lengths disagree"),
        (f"data/demo_0/obs/{CAMERA}", np.zeros((4, 8, 10, 3)), "obs/agentview_image is float64 .* expected uint8"),
        ("data/demo_0/obs/object", np.zeros((4, 2, 2)), r"obs/object is float64 \(4, 2, 2\), expected numbers"),
        ("data/demo_0/actions", np.full((4, 7), np.nan), "demo_0: episode.actions is not finite"),
        ("mask/train", np.array([b"demo_7"]), "filter key 'train' names demo_7, which is not there"),
        ("mask/train", np.array([1.0]), "mask/train holds float64, expected names of fixed length"),
        ("data/demo_0/dones", np.array([b"no"] * 4), "dones holds .*, expected numbers"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, key, value, said):
    path = tmp_path / "a.hdf5"
    write(path)
    change(path, key, value)
    keys = Keys(cameras={CAMERA: (6, 8)}, filter_key="train" if key.startswith("mask") else "")
    with pytest.raises(ValueError, match=said) as refused:
        list(read_episodes(path, keys=keys))
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def lift(rate=20.0):
    """A task that is seen by a camera: it has the fields of the file that it reads."""
    base, fields = TASKS["pusht-image"](), (Field("robot0_eef_pos", (3,)), camera(CAMERA, 8, 10))
    lifting = base.with_control(
        name="lift", fields=fields, observation_dim=2 * (3 + 8 * 10 * 3), action_dim=7, horizon=4, n_action_steps=2,
        control_dt=1 / rate, limits=replace(base.control.limits, low=-np.ones(7), high=np.ones(7)),
    )  # fmt: skip
    return replace(lifting, context_dim=6, benchmark=None)


def test_what_is_imported_are_the_tasks_fields(tmp_path):
    made, task = write(tmp_path / "ph.hdf5"), lift()
    report = import_dataset(tmp_path / "run", task, tmp_path / "ph.hdf5", filter_key="train")
    assert (report.episodes, report.steps) == (2, 10)
    for episode, (seen, _) in zip(read_dataset(tmp_path / "run" / "data"), (made[0], made[2]), strict=True):
        np.testing.assert_array_equal(episode.observations, seen["robot0_eef_pos"].astype(np.float32))
        np.testing.assert_array_equal(episode.images[CAMERA], seen[CAMERA])
    again = import_dataset(tmp_path / "run", task, tmp_path / "ph.hdf5", filter_key="train")
    assert "they were there already" in again.notes
    with pytest.raises(FileExistsError):
        import_dataset(tmp_path / "run", task, tmp_path / "ph.hdf5")
    with pytest.raises(ValueError, match="recorded at 20 Hz, and task 'lift' is controlled at 10 Hz"):
        import_dataset(tmp_path / "other", lift(10.0), tmp_path / "ph.hdf5")
    small = task.with_control(fields=(task.control.fields[0], camera(CAMERA, 4, 20)))
    with pytest.raises(ValueError, match=r"episode 0: image 'agentview_image' is uint8 .* expected uint8 \(4, 20, 3\)"):
        import_dataset(tmp_path / "other", small, tmp_path / "ph.hdf5")
    assert not (tmp_path / "other").exists()


def test_another_format_has_no_filter_keys(tmp_path):
    np.savez(tmp_path / "a.npz", actions=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="has no filter keys, which are robomimic's"):
        read_episodes(tmp_path / "a.npz", keys=Keys(filter_key="train"))
