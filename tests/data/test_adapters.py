"""What a path holds is seen by looking; every format gives the same episodes."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow as pa
import pytest
from gymnasium.spaces import Box
from pyarrow import parquet

from onestride.data import adapters
from onestride.data.adapters import read_episodes
from onestride.data.episode import Episode
from onestride.data.minari import write_dataset
from onestride.files import CheckpointError
from onestride.training.windows import make_windows

LENGTHS = (4, 6)


@pytest.fixture
def flat():
    """Two terminated episodes."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(10, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(10, 2)).astype(np.float32),
        "rewards": rng.normal(size=10).astype(np.float32),
        "terminals": np.isin(np.arange(10), (3, 9)),
        "timeouts": np.zeros(10, bool),
    }


@pytest.fixture
def episodes(flat):
    """The same two, with the last observation again as the one after it."""
    made = []
    for start, steps in zip((0, 4), LENGTHS, strict=True):
        rows = slice(start, start + steps)
        o = flat["observations"][rows]
        made.append(Episode(np.concatenate((o, o[-1:])), flat["actions"][rows], flat["rewards"][rows], True))
    return made


def as_npz(folder, flat, episodes):
    np.savez(folder / "mine.npz", **flat)
    return folder / "mine.npz"


def as_compressed_npz_without_timeouts(folder, flat, episodes):
    np.savez_compressed(folder / "mine.npz", **{key: a for key, a in flat.items() if key != "timeouts"})
    return folder / "mine.npz"


def as_hdf5(folder, flat, episodes):
    with h5py.File(folder / "walker.hdf5", "w") as f:
        for key, value in flat.items():
            f[key] = value
    return folder / "walker.hdf5"


def as_h5(folder, flat, episodes):
    return as_hdf5(folder, flat, episodes).rename(folder / "walker.h5")


def as_minari(folder, flat, episodes):
    write_dataset(folder / "minari", episodes, 2, {}, Box(-1, 1, (2,), np.float32))
    return folder / "minari"


def as_lerobot(folder, flat, episodes):
    rows = {
        "observation.state": list(flat["observations"]),
        "action": list(flat["actions"]),
        "next.reward": flat["rewards"],
        "next.done": flat["terminals"],
        "next.truncated": np.zeros(len(flat["terminals"]), bool),
        "episode_index": np.repeat([0, 1], LENGTHS),
        "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
    }
    parts = {"data": rows, "meta/episodes": {"episode_index": [0, 1], "length": LENGTHS}}
    for part, table in parts.items():
        (folder / "lerobot" / part / "chunk-000").mkdir(parents=True)
        parquet.write_table(pa.table(table), folder / "lerobot" / part / "chunk-000" / "file-000.parquet")
    info = {"codebase_version": "v3.0", "features": {name: {"dtype": "float32"} for name in rows}}
    (folder / "lerobot" / "meta" / "info.json").write_text(json.dumps(info))
    return folder / "lerobot"


@pytest.mark.parametrize(
    "write",
    [as_npz, as_compressed_npz_without_timeouts, as_hdf5, as_h5, as_minari, as_lerobot],
    ids=lambda f: f.__name__,
)
def test_the_same_episodes_from_every_format(write, flat, episodes, point, tmp_path):
    found = list(read_episodes(write(tmp_path, flat, episodes)))
    assert len(found) == 2
    for x, y in zip(found, episodes, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
        assert (x.terminated, x.truncated) == (True, False)
    assert len(make_windows(found, point)) == 10


def test_ends_by_another_name_are_not_overlooked(flat, tmp_path):
    """Cut every 1000 steps instead, episodes ran into each other."""
    flat["terminals"][3] = False
    flat["truncations"] = np.arange(10) == 3
    del flat["timeouts"]
    np.savez(tmp_path / "mine.npz", **flat)
    notes: list[str] = []
    assert [len(e) for e in read_episodes(tmp_path / "mine.npz", notes)] == [3, 6]
    assert notes == ["cut-off steps are those marked in truncations: 1 of them"]


def test_next_observations_of_an_npz_are_used(flat, tmp_path):
    following = np.roll(flat["observations"], -1, 0)
    following[[3, 9]] = flat["observations"][[3, 9]] + 7
    np.savez(tmp_path / "mine.npz", **flat, next_observations=following)
    found = list(read_episodes(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(found[1].observations[-1], flat["observations"][9] + 7)


# ---- what is refused ----


def refused(path, message, kind: type[Exception] = ValueError):
    with pytest.raises(kind, match=message):
        read_episodes(path)


@pytest.mark.parametrize("name", ["notes.txt", "frames.parquet", "folder"])
def test_anything_else_is_told_what_is_understood(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_text("hello")
    understood = r"data/metadata\.json \(Minari\).*meta/info\.json \(LeRobot.*\.h5 \(D4RL, robomimic\).*\.npz"
    refused(path, rf"{name} is no dataset that is understood here: .*{understood}")


def test_nothing_there(tmp_path):
    refused(tmp_path / "none", "none does not exist; a dataset is a folder with", FileNotFoundError)


def test_an_npz_without_its_arrays(flat, tmp_path):
    np.savez(tmp_path / "mine.npz", obs=flat["observations"], actions=flat["actions"], rewards=flat["rewards"])
    refused(tmp_path / "mine.npz", r"has no observations, terminals; it has actions, obs, rewards\. A dataset")


def test_an_npz_without_rewards_is_told_that_zeros_will_do(flat, tmp_path):
    np.savez(tmp_path / "mine.npz", **{name: array for name, array in flat.items() if name != "rewards"})
    refused(tmp_path / "mine.npz", r"has no rewards; it has .*\. A dataset of arrays needs .*write zeros$")


def test_pickled_objects_are_not_loaded(flat, tmp_path):
    np.savez(tmp_path / "mine.npz", **flat | {"rewards": np.array([{}] * 10)})
    refused(tmp_path / "mine.npz", r"mine\.npz cannot be read .*'rewards' holds Python objects.*np\.savez")


def test_an_npz_that_is_none(flat, tmp_path):
    path = tmp_path / "mine.npz"
    with path.open("wb") as f:
        np.save(f, flat["actions"])
    refused(path, r"mine\.npz is not whole, or not what np\.savez writes")
    np.savez(path, **flat)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, r"mine\.npz is not whole, or not what np\.savez writes")


def test_an_npz_altered_inside(flat, tmp_path):
    np.savez(tmp_path / "mine.npz", **flat)
    bytes_ = bytearray((tmp_path / "mine.npz").read_bytes())
    at = bytes_.index(flat["observations"].tobytes()) + 20
    bytes_[at] ^= 255
    (tmp_path / "mine.npz").write_bytes(bytes_)
    refused(tmp_path / "mine.npz", r"mine\.npz cannot be read \(.*Bad CRC-32")


def test_the_arrays_own_errors_name_the_file(flat, tmp_path):
    flat["rewards"][3] = np.inf
    np.savez(tmp_path / "mine.npz", **flat)
    refused(tmp_path / "mine.npz", r"mine\.npz: rewards\[3\] is not finite")


@pytest.mark.parametrize("write", [as_npz, as_hdf5, as_minari, as_lerobot], ids=lambda f: f.__name__)
def test_a_number_that_is_none_is_refused_with_the_name_of_the_data(write, flat, episodes, tmp_path):
    path = write(tmp_path, flat | {"observations": np.where(flat["observations"] > 0, 1.0, np.nan)}, episodes)
    if write is as_minari:
        with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
            file["episode_1/observations"][0, 0] = np.nan
    with pytest.raises(ValueError, match=rf"{path.name}.*observations.* is not finite"):
        list(read_episodes(path))


def test_a_refusal_that_names_no_file_is_given_the_datas(flat, episodes, tmp_path, monkeypatch):
    """Of its checks, before the first episode, and of a later episode."""

    def checks(*_, **__):
        raise CheckpointError("row 3 goes back in time")

    def later(*_, **__):
        yield episodes[0]
        raise ValueError("episode 1 has images of another size")

    path = as_hdf5(tmp_path, flat, episodes)
    for reader, said in ((checks, "row 3 goes back"), (later, "episode 1 has images")):
        monkeypatch.setattr(adapters, "read_d4rl", reader)
        monkeypatch.setattr(adapters, "on_purpose", lambda error: True)  # as those of the program's own readers
        with pytest.raises(ValueError, match=rf"^{path}: {said}"):
            list(read_episodes(path))
    monkeypatch.setattr(adapters, "on_purpose", lambda error: False)
    with pytest.raises(ValueError, match=r"^episode 1 has images"):  # a bug of ours shows itself as it is
        list(read_episodes(path))
