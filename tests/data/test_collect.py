"""Collecting: whole or not there, the same after any interruption, and Minari's own from the first byte."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium.spaces import Box
from minari.dataset.minari_storage import MinariStorage

from onestride.data import collect as module
from onestride.data.collect import collect
from onestride.data.minari import read_dataset, read_metadata, write_dataset
from onestride.files import CheckpointError
from onestride.tasks.kinova import demonstrations

ACTION = Box(-1, 1, (2,), np.float32)
METADATA = {"task": "point", "generator": "made up", "generator_version": 3, "planner": {"speed": 0.1}}
SEED = 11
PER_CHUNK = (3, 0, 2, 4, 1, 5)


@pytest.fixture
def source(point, make_episode):
    """Chunks of 3, 0, 2, 4, 1, 5, 3, 0, ... episodes; it counts what it was asked for."""

    def make(seed, number):
        make.asked.append(number)
        if number == make.dies_at:
            raise KeyboardInterrupt
        count = PER_CHUNK[number % len(PER_CHUNK)]
        episodes = [make_episode(point, 1 + (number + i) % 6, seed * 1000 + number * 10 + i) for i in range(count)]
        return episodes, Counter({"scenes": 7, "refused: too near": 7 - count})

    make.asked, make.dies_at = [], None
    return make


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
        assert (x.terminated, x.truncated) == (y.terminated, y.truncated)


def run(source, folder, episodes=9, seed=SEED, metadata=METADATA, unit="episodes"):
    return collect(source, episodes, seed, folder, metadata, ACTION, unit)


def test_the_episodes_are_the_sources_in_order(source, tmp_path):
    report = run(source, tmp_path / "data")
    expected = [e for number in range(4) for e in source(SEED, number)[0]][:9]
    same(list(read_dataset(tmp_path / "data")), expected)
    assert report["counts"] == {"scenes": 28, "refused: too near": 28 - 9}
    assert report["episodes_per_s"] > 0


@pytest.mark.parametrize("episodes", [1, 3, 4, 5, 10])
def test_exactly_as_many_as_asked_for(source, tmp_path, episodes):
    run(source, tmp_path / "data", episodes)
    assert len(list(read_dataset(tmp_path / "data"))) == read_metadata(tmp_path / "data")["total_episodes"] == episodes


def test_a_relative_folder_is_as_good_as_an_absolute_one(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(source, Path("runs/here"))
    assert len(list(read_dataset(Path("runs/here")))) == 9


def left_in(folder):
    """What stands there, hidden or not, but for the empty files by which processes keep out of each other's way."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock" or p.stat().st_size)


def test_an_interrupted_run_goes_on_and_gives_the_same_episodes(source, tmp_path):
    run(source, tmp_path / "whole")
    source.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    source.dies_at, source.asked[:] = None, []
    run(source, tmp_path / "data")
    assert source.asked == [2, 3]  # what was made is not made again
    same(list(read_dataset(tmp_path / "data")), list(read_dataset(tmp_path / "whole")))
    whole, resumed = read_metadata(tmp_path / "whole"), read_metadata(tmp_path / "data")
    for found in (whole, resumed):
        for other in ("dataset_id", "episodes_per_s", "steps_per_s", "dataset_size"):
            found.pop(other, None)
    assert resumed == whole
    assert left_in(tmp_path) == ["data", "whole"]


def test_killed_while_the_dataset_is_written(source, tmp_path, monkeypatch):
    run(source, tmp_path / "whole")
    write = module.write_dataset

    def dies(folder, episodes, *others):
        def some():
            for number, episode in enumerate(episodes):
                if number == 5:
                    raise KeyboardInterrupt
                yield episode

        write(folder, some(), *others)

    monkeypatch.setattr(module, "write_dataset", dies)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(module, "write_dataset", write)
    source.asked[:] = []
    run(source, tmp_path / "data")
    assert source.asked == []
    same(list(read_dataset(tmp_path / "data")), list(read_dataset(tmp_path / "whole")))
    assert left_in(tmp_path) == ["data", "whole"]


def test_killed_between_the_dataset_and_the_removal_of_its_parts(source, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "rmtree", lambda path, **options: dies() if not options else None)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "data")
    assert (tmp_path / "data").exists()
    source.asked[:] = []
    assert run(source, tmp_path / "data")["total_episodes"] == 9
    assert source.asked == []
    assert left_in(tmp_path) == ["data"]  # no second copy of everything, out of sight


def test_a_finished_dataset_is_left_alone(source, tmp_path):
    first = run(source, tmp_path / "data")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "data").rglob("*") if p.is_file()}
    source.asked[:] = []
    again = run(source, tmp_path / "data")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "data").rglob("*") if p.is_file()} == before
    assert source.asked == []
    assert {k: again[k] for k in first} == first


def test_the_arms_metadata_is_recognised_again(source, tmp_path):
    for _ in range(2):
        collect(source, 2, SEED, tmp_path / "data", demonstrations.metadata(), ACTION)
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"episodes": 8},
        {"metadata": METADATA | {"generator_version": 4}},
        {"metadata": METADATA | {"planner": {"speed": 0.2}}},
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(source, tmp_path, change, finished):
    if finished:
        run(source, tmp_path / "data")
    else:
        source.dies_at = 2
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "data")
        source.dies_at = None
    asked = len(source.asked)
    with pytest.raises(
        CheckpointError, match=r"other settings \([\w.]+: .* there, .* asked for\); choose another --run"
    ):
        run(source, tmp_path / "data", **change)
    assert len(source.asked) == asked


def test_a_folder_that_is_something_else_is_not_touched(source, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileNotFoundError, match="holds no Minari dataset"):
        run(source, tmp_path / "data")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["thesis.tex"]


def test_writing_never_overwrites(point, make_episode, tmp_path):
    episodes = [make_episode(point, 3, seed) for seed in range(2)]
    write_dataset(tmp_path / "data", iter(episodes), 2, {}, ACTION)
    with pytest.raises(FileExistsError, match="exists already; choose another --run"):
        write_dataset(tmp_path / "data", iter(episodes[:1]), 1, {}, ACTION)
    same(list(read_dataset(tmp_path / "data")), episodes)


def test_settings_too_tight_to_end(tmp_path):
    with pytest.raises(ValueError, match="came of 20 chunks"):
        run(lambda seed, number: ([], Counter(scenes=7)), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_altered_chunk_is_refused(source, tmp_path):
    source.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "data")
    source.dies_at = None
    part = tmp_path / ".data.parts" / "00000.safetensors"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="altered or cut short"):
        run(source, tmp_path / "data")


def test_minari_reads_it(source, tmp_path, monkeypatch):
    run(source, tmp_path / "data")
    expected = list(read_dataset(tmp_path / "data"))
    storage = MinariStorage.read(tmp_path / "data" / "data")
    assert storage.total_episodes == 9
    assert storage.total_steps == sum(len(e) for e in expected)
    assert storage.metadata["generator_version"] == 3
    assert storage.metadata["seed"] == SEED
    assert storage.metadata["minari_version"] == minari.__version__

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("data")
    assert dataset.action_space == ACTION
    for theirs, ours in zip(dataset.iterate_episodes(), expected, strict=True):
        np.testing.assert_array_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        np.testing.assert_array_equal(theirs.rewards, ours.rewards)
        assert theirs.observations.shape[0] == theirs.actions.shape[0] + 1
        assert theirs.terminations.tolist() == [False] * (len(ours) - 1) + [ours.terminated]


@pytest.mark.slow
@pytest.mark.parametrize("count", [255, 256, 257, 512])
def test_more_episodes_than_are_written_at_once(point, make_episode, tmp_path, count):
    episodes = [make_episode(point, 1, seed) for seed in range(count)]
    write_dataset(tmp_path / "data", iter(episodes), count, {}, ACTION)
    same(list(read_dataset(tmp_path / "data")), episodes)


def test_a_damaged_episode_is_named(point, make_episode, tmp_path):
    import h5py

    write_dataset(tmp_path / "data", (make_episode(point, 3, seed) for seed in range(4)), 4, {}, ACTION)
    with h5py.File(tmp_path / "data" / "data" / "main_data.hdf5", "a") as f:
        f["episode_2"]["observations"][1, 3] = np.nan
    with pytest.raises(ValueError, match=r"episode 2: episode\.observations is not finite at index \(1, 3\)"):
        list(read_dataset(tmp_path / "data"))


def test_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="onestride collect"):
        list(read_dataset(tmp_path))


def test_the_settings_beside_the_chunks_are_json(source, tmp_path):
    source.dies_at = 0
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "data")
    assert json.loads((tmp_path / ".data.parts" / "settings.json").read_text())["seed"] == SEED


# ---- counted in steps ----


def steps_of(folder):
    return sum(len(e) for e in read_dataset(folder))


@pytest.mark.parametrize("steps", [1, 6, 7, 20])
def test_counted_in_steps_whole_chunks_are_kept(source, tmp_path, steps):
    report = run(source, tmp_path / "data", steps, unit="steps")
    made, expected = 0, []
    for number in range(100):
        if made >= steps:
            break
        expected += source(SEED, number)[0]
        made = sum(len(e) for e in expected)
    same(list(read_dataset(tmp_path / "data")), expected)
    assert steps <= steps_of(tmp_path / "data") == read_metadata(tmp_path / "data")["total_steps"]
    assert report["steps"] == steps  # what was asked for is what a second run is compared with
    assert report["steps_per_s"] > 0


def test_chunks_of_one_length_give_exactly_the_steps_asked_for(point, make_episode, tmp_path):
    def even(seed, number):
        return [make_episode(point, 6, 10 * number), make_episode(point, 4, 10 * number + 1)], Counter()

    run(even, tmp_path / "data", 40, unit="steps")
    assert steps_of(tmp_path / "data") == 40


def test_steps_too_go_on_after_a_kill_and_are_recognised(source, tmp_path):
    run(source, tmp_path / "whole", 25, unit="steps")
    source.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "data", 25, unit="steps")
    source.dies_at, source.asked[:] = None, []
    run(source, tmp_path / "data", 25, unit="steps")
    assert source.asked[0] == 3
    same(list(read_dataset(tmp_path / "data")), list(read_dataset(tmp_path / "whole")))
    source.asked[:] = []
    run(source, tmp_path / "data", 25, unit="steps")
    assert source.asked == []
    for other in ({"episodes": 26, "unit": "steps"}, {"episodes": 25, "unit": "episodes"}):
        with pytest.raises(CheckpointError, match="other settings"):
            run(source, tmp_path / "data", **other)
