"""D4RL's three layouts, written by hand and read back."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from onestride.data.d4rl import read_d4rl

V0 = ("observations", "actions", "rewards", "terminals")
V1 = (*V0, "timeouts")
V2 = (*V1, "next_observations")
END, LATE = 6, 13  # a terminal, a timeout; 20 steps in all


@pytest.fixture
def flat():
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(20, 3)).astype(np.float32)
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, size=(20, 2)).astype(np.float32),
        "rewards": rng.normal(size=20).astype(np.float32),
        "terminals": np.arange(20) == END,
        "timeouts": np.arange(20) == LATE,
        "next_observations": observations + 100,
    }


@pytest.fixture
def write(flat, tmp_path):
    def make(keys, name="some-medium-v2.hdf5"):
        with h5py.File(tmp_path / name, "w") as f:
            for key in keys:
                f.create_dataset(key, data=flat[key], compression="gzip")
            f["infos/qpos"] = np.zeros((20, 9))
            f["metadata/algorithm"] = b"SAC"
        return tmp_path / name

    return make


def check(episodes, flat, expected):
    """expected: first step, steps, terminated, where the last observation is from."""
    assert len(episodes) == len(expected)
    for e, (start, steps, terminated, last) in zip(episodes, expected, strict=True):
        stop = start + steps
        np.testing.assert_array_equal(e.observations[:-1], flat["observations"][start:stop])
        np.testing.assert_array_equal(e.observations[-1], last)
        np.testing.assert_array_equal(e.actions, flat["actions"][start:stop])
        np.testing.assert_array_equal(e.rewards, flat["rewards"][start:stop])
        assert (e.terminated, e.truncated) == (terminated, not terminated)


def test_v2_is_whole(write, flat):
    after = flat["next_observations"]
    expected = [(0, 7, True, after[6]), (7, 7, False, after[13]), (14, 6, False, after[19])]
    check(list(read_d4rl(write(V2))), flat, expected)


def test_v1_has_no_observation_after_the_last(write, flat):
    o = flat["observations"]
    check(list(read_d4rl(write(V1))), flat, [(0, 7, True, o[6]), (7, 6, False, o[13]), (14, 5, False, o[19])])


def test_v0_is_cut_by_the_number_of_steps(write, flat):
    o = flat["observations"]
    path = write(V0)
    check(list(read_d4rl(path)), flat, [(0, 7, True, o[6]), (7, 12, False, o[19])])
    cut = [(0, 7, True, o[6]), (7, 9, False, o[16]), (17, 2, False, o[19])]
    check(list(read_d4rl(path, max_steps=10)), flat, cut)


def test_rewards_and_flags_as_old_files_have_them(write, flat):
    before = list(read_d4rl(write(V1)))
    flat["rewards"], flat["terminals"] = flat["rewards"][:, None], flat["terminals"].astype(np.float32)
    after = list(read_d4rl(write(V1, "old.hdf5")))
    assert [e.rewards.tolist() for e in after] == [e.rewards.tolist() for e in before]
    assert [e.terminated for e in after] == [e.terminated for e in before]


def test_bounds(write, flat):
    flat["actions"][11, 1] = 1.5
    path = write(V2)
    with pytest.raises(ValueError, match=r"some-medium-v2\.hdf5: actions\[11, 1\] is 1\.5, outside \[-1, 1\]"):
        read_d4rl(path)
    assert len(list(read_d4rl(path, high=2))) == len(list(read_d4rl(path, low=None, high=None))) == 3


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "next_observations"])
def test_a_number_that_is_not_finite(write, flat, key):
    flat[key][17] = np.nan
    with pytest.raises(ValueError, match=rf"some-medium-v2\.hdf5: {key}\[17.* is not finite"):
        read_d4rl(write(V2))


def test_missing_keys_are_named_with_those_that_are_there(write):
    with pytest.raises(ValueError, match=r"has no actions, terminals; it has infos, metadata, observations, rewards\."):
        read_d4rl(write(("observations", "rewards")))


def test_an_empty_file(tmp_path):
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(ValueError, match=r"has no observations, .*; it has nothing\."):
        read_d4rl(tmp_path / "empty.h5")


def test_minaris_own_file(tmp_path):
    with h5py.File(tmp_path / "main_data.hdf5", "w") as f:
        f.create_group("episode_0")
    with pytest.raises(ValueError, match=r"it has episode_0.*for a Minari dataset give the folder that holds data/"):
        read_d4rl(tmp_path / "main_data.hdf5")


def test_a_group_in_place_of_an_array(flat, tmp_path):
    with h5py.File(tmp_path / "grouped.hdf5", "w") as f:
        for key in V1[1:]:
            f[key] = flat[key]
        f["observations/camera"] = np.zeros((20, 4))
    with pytest.raises(ValueError, match="observations is not an array but a group"):
        read_d4rl(tmp_path / "grouped.hdf5")


def test_not_hdf5(tmp_path):
    (tmp_path / "a.hdf5").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(ValueError, match=r"a\.hdf5 is not an HDF5 file \(it begins with b'<!DOCTYPE html>.*whole\?"):
        read_d4rl(tmp_path / "a.hdf5")


def test_cut_short(write):
    path = write(V2)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"some-medium-v2\.hdf5 cannot be read.*download it again"):
        read_d4rl(path)


def test_no_file(tmp_path):
    for path in (tmp_path / "none.hdf5", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"is not a file; a D4RL dataset is one \.hdf5 file"):
            read_d4rl(path)
