"""LeRobotDataset folders, v3 and v2, written with pyarrow as the format says, and read back."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from onestride.data.lerobot import read_lerobot

LENGTHS = (5, 3, 1, 6, 2)
WIDTHS = {"observation.state": 3, "observation.environment_state": 2, "action": 2}
BOTH = ("observation.state", "observation.environment_state")


def column(values):
    """As LeRobot stores it: a list of one length to a row, or a single number."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


class Dataset:
    """Frames (name -> array), the features that describe them, and a folder to write both to."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        steps = sum(LENGTHS)
        self.folder, self.column = folder, column
        self.frames = {name: rng.normal(size=(steps, width)).astype(np.float32) for name, width in WIDTHS.items()}
        last = np.concatenate([np.arange(n) == n - 1 for n in LENGTHS])
        self.frames |= {
            "next.reward": rng.normal(size=steps).astype(np.float32),
            "next.done": last,
            "next.truncated": np.zeros(steps, bool),
            "timestamp": np.concatenate([np.arange(n) / 10 for n in LENGTHS]).astype(np.float32),
            "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
            "episode_index": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
            "index": np.arange(steps),
            "task_index": np.zeros(steps, np.int64),
        }
        self.features = {
            name: {"dtype": str(a.dtype), "shape": list(a.shape[1:]) or [1], "names": None}
            for name, a in self.frames.items()
        }
        self.features["observation.images.top"] = {"dtype": "video", "shape": [3, 96, 96], "names": None}
        self.info = {"codebase_version": "v3.0", "fps": 10, "features": self.features}
        self.lengths = dict(enumerate(LENGTHS))
        self.cuts = (0, 7, 8, 14, steps)  # episode 1, 3 cross files; the files lie in two chunks

    def write(self):
        if self.info["codebase_version"] == "v2.1":
            return self._write_v2()
        self._file("meta/episodes", 0, 0, {"episode_index": list(self.lengths), "length": list(self.lengths.values())})
        for number, (start, stop) in enumerate(zip(self.cuts, self.cuts[1:], strict=False)):
            rows = {name: self.column(a[start:stop]) for name, a in self.frames.items()}
            self._file("data", number // 2, number % 2, rows)
        (self.folder / "meta" / "info.json").write_text(json.dumps(self.info))
        return self.folder

    def _write_v2(self):
        """Each episode in a file of its own, and a line for each."""
        start = 0
        for number, length in enumerate(LENGTHS):
            path = self.folder / f"data/chunk-{number // 2:03d}/episode_{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = {name: self.column(a[start : start + length]) for name, a in self.frames.items()}
            parquet.write_table(pa.table(rows), path)
            start += length
        (self.folder / "meta").mkdir()
        lines = [{"episode_index": i, "tasks": ["push"], "length": n} for i, n in self.lengths.items()]
        (self.folder / "meta/episodes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (self.folder / "meta/info.json").write_text(json.dumps(self.info))
        return self.folder

    def drop(self, *names):
        for name in names:
            del self.frames[name], self.features[name]

    def _file(self, part, chunk, file, rows):
        path = self.folder / part / f"chunk-{chunk:03d}" / f"file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(rows), path)


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / "pusht")


def check(episodes, dataset, expected, observation=("observation.state",)):
    """expected: episode, steps, terminated."""
    assert [(len(e), e.terminated, e.truncated) for e in episodes] == [(n, t, not t) for _, n, t in expected]
    for e, (number, steps, _) in zip(episodes, expected, strict=True):
        start = sum(LENGTHS[:number])
        rows = slice(start, start + steps)
        o = np.concatenate([dataset.frames[name] for name in observation], axis=1)
        np.testing.assert_array_equal(e.observations[:-1], o[rows])
        np.testing.assert_array_equal(e.observations[-1], o[start + LENGTHS[number] - 1])
        np.testing.assert_array_equal(e.actions, dataset.frames["action"][rows])
        np.testing.assert_array_equal(e.rewards, dataset.frames["next.reward"][rows])


DONE = [(0, 5, True), (1, 3, True), (2, 1, True), (3, 6, True), (4, 2, True)]
CUT = [(0, 4, False), (1, 2, False), (3, 5, False), (4, 1, False)]  # the one of a single frame is dropped


@pytest.mark.parametrize("observation", [("observation.state",), BOTH, BOTH[::-1]])
def test_there_and_back(dataset, observation):
    check(list(read_lerobot(dataset.write(), observation=observation)), dataset, DONE, observation)


def test_one_name_needs_no_tuple(dataset):
    check(list(read_lerobot(dataset.write(), observation=BOTH[1])), dataset, DONE, BOTH[1:])


@pytest.mark.parametrize("cuts", [(0, 17), (0, 5, 8, 9, 15, 17), tuple(range(18))])
def test_however_the_frames_are_spread_over_files(dataset, cuts):
    dataset.cuts = cuts
    check(list(read_lerobot(dataset.write())), dataset, DONE)


def test_the_order_in_the_files_does_not_matter(dataset):
    folder = dataset.write()
    files = sorted((folder / "data").rglob("*.parquet"))
    files[0].rename(folder / "swap")
    files[-1].rename(files[0])
    (folder / "swap").rename(files[-1])
    check(list(read_lerobot(folder)), dataset, DONE)


def test_no_mark_is_a_truncation(dataset):
    dataset.drop("next.done")
    check(list(read_lerobot(dataset.write())), dataset, CUT)


def test_done_because_of_a_truncation_is_a_truncation(dataset):
    dataset.frames["next.truncated"] = dataset.frames["next.done"]
    check(list(read_lerobot(dataset.write())), dataset, CUT)


def test_a_mark_on_every_end_says_nothing_of_why_it_ended(dataset):
    """LeRobot's own recorder has no next.truncated, and marks time limits as done: they are no falls."""
    dataset.drop("next.truncated")
    check(list(read_lerobot(dataset.write())), dataset, CUT)


def test_a_mark_on_some_ends_alone_is_a_termination(dataset):
    dataset.drop("next.truncated")
    dataset.frames["next.done"] = dataset.frames["next.done"] & (dataset.frames["episode_index"] != 3)
    check(list(read_lerobot(dataset.write())), dataset, [DONE[0], DONE[1], DONE[2], CUT[2], DONE[4]])


def test_a_mark_in_the_middle_ends_nothing(dataset):
    dataset.frames["next.done"] = dataset.frames["next.done"].copy()
    dataset.frames["next.done"][[0, 1, 10]] = True
    check(list(read_lerobot(dataset.write())), dataset, DONE)


def test_no_reward_is_0(dataset):
    dataset.drop("next.reward")
    episodes = list(read_lerobot(dataset.write()))
    dataset.frames["next.reward"] = np.zeros(17)
    check(episodes, dataset, DONE)


def test_columns_by_other_names(dataset):
    for name in ("action", "next.reward"):
        dataset.frames[f"other.{name}"] = dataset.frames[name] * 1
        dataset.features[f"other.{name}"] = dataset.features[name]
        dataset.frames[name] = dataset.frames[name] * np.nan
    folder = dataset.write()
    episodes = list(read_lerobot(folder, action="other.action", reward="other.next.reward"))
    for name in ("action", "next.reward"):
        dataset.frames[name] = dataset.frames[f"other.{name}"]
    check(episodes, dataset, DONE)


def test_lists_that_do_not_say_their_length(dataset):
    dataset.column = lambda a: pa.array(a.tolist())
    check(list(read_lerobot(dataset.write())), dataset, DONE)


def test_one_column_of_plain_numbers(dataset):
    dataset.frames["observation.state"] = dataset.frames["observation.state"][:, 0]
    episodes = list(read_lerobot(dataset.write()))
    dataset.frames["observation.state"] = dataset.frames["observation.state"][:, None]
    check(episodes, dataset, DONE)


# ---- what is refused ----


def refused(dataset, message, kind: type[Exception] = ValueError, **options):
    with pytest.raises(kind, match=message):
        read_lerobot(dataset.folder, **options)


@pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
def test_another_version(dataset, version):
    dataset.info["codebase_version"] = version
    dataset.write()
    refused(dataset, rf"is of LeRobotDataset version {version}, this reader takes v3\.x and v2\.x; convert it")


def test_version_2_is_read_as_version_3(dataset, tmp_path):
    newer = list(read_lerobot(dataset.write(), observation=BOTH))
    dataset.folder, dataset.info["codebase_version"] = tmp_path / "v2", "v2.1"
    older = list(read_lerobot(dataset.write(), observation=BOTH))
    assert len(older) == len(newer) == len(LENGTHS)
    for a, b in zip(newer, older, strict=True):
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_part_of_version_2_that_is_lost_is_noticed(dataset):
    dataset.info["codebase_version"] = "v2.1"
    folder = dataset.write()
    (folder / "data/chunk-001/episode_000003.parquet").unlink()
    refused(dataset, r"episode 3: 0 frames under data/, 6 by meta/episodes; was it downloaded whole\?")
    (folder / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": "long"}\n')
    refused(dataset, r"episodes\.jsonl, line 1: .*length")
    (folder / "meta/episodes.jsonl").unlink()
    refused(dataset, r"episodes\.jsonl")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"observation": ("observation.state", "observation.force")}, r"observation\.force"),
        ({"action": "actions"}, "actions"),
        ({"reward": "reward"}, "reward"),
        ({"observation": ("observation.images.top",)}, r"observation\.images\.top"),
    ],
)
def test_a_missing_column_is_named_with_those_that_exist(dataset, options, named):
    dataset.write()
    exist = r"action, episode_index, .*observation\.environment_state, observation\.state, task_index, timestamp"
    pictures = r"Pictures are a camera's, not numbers: observation\.images\.top$"
    refused(dataset, rf"no column of numbers named {named}; it has {exist}\. {pictures}", **options)


def test_pictures_alone(dataset):
    dataset.drop(*BOTH)
    dataset.write()
    refused(dataset, r"named observation\.state; .*observation\.images\.top; this dataset observes by pictures alone")


def test_a_column_that_the_file_lacks(dataset):
    del dataset.frames["action"]
    dataset.write()
    refused(dataset, r"file-000\.parquet has no column action; it has observation\.state, ")


def test_a_lost_file_is_noticed(dataset):
    folder = dataset.write()
    (folder / "data" / "chunk-001" / "file-000.parquet").unlink()
    refused(dataset, r"episode 2: 0 frames under data/, 1 by meta/episodes; was it downloaded whole\?")


def test_an_episode_that_nobody_knows_is_noticed(dataset):
    del dataset.lengths[4]
    dataset.write()
    refused(dataset, "episode 4: 2 frames under data/, 0 by meta/episodes")


def test_a_frame_there_twice(dataset):
    dataset.frames["frame_index"][11] = 1
    dataset.write()
    refused(dataset, r"episode 3: frame 2 is missing or there twice \(next is 1\)")


def test_a_number_that_is_not_finite(dataset):
    dataset.frames["observation.state"][9, 1] = np.nan
    dataset.write()
    refused(dataset, r"pusht: observations\[9, 1\] is not finite")


def test_text_for_numbers(dataset):
    dataset.frames["action"] = np.array(["left"] * 17)
    dataset.write()
    refused(dataset, r"file-000\.parquet, column action holds string, expected numbers")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, 1.0], [0.0]] * 8 + [[0.0]], r"holds lists of lengths \[2, 1\], expected one length"),
        ([[[0.0, 1.0]]] * 17, r"holds list<.*list<.*, expected numbers or lists of numbers"),
        ([[0.0, None]] * 17, "has 7 empty entries, expected none"),
        ([0.0, None] * 8 + [0.0], "has 3 empty entries, expected none"),
        ([None] * 17, "holds null, expected numbers"),
    ],
)
def test_lists_that_are_no_rows(dataset, values, message):
    dataset.frames["action"] = values
    dataset.column = lambda a: pa.array(a) if isinstance(a, list) else column(a)
    dataset.write()
    refused(dataset, rf"file-000\.parquet, column action {message}")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float32())])
def test_missing_lists(dataset, kind):
    dataset.frames["action"] = [[0.0, 1.0], None] * 8 + [None]
    dataset.column = lambda a: pa.array(a, kind) if isinstance(a, list) else column(a)
    dataset.write()
    refused(dataset, r"file-000\.parquet, column action has 3 empty entries")


def test_files_of_unlike_widths(dataset):
    folder = dataset.write()
    path = folder / "data" / "chunk-001" / "file-001.parquet"
    table = parquet.read_table(path)
    wide = column(np.zeros((len(table), 4), np.float32))
    parquet.write_table(table.set_column(table.column_names.index("action"), "action", wide), path)
    refused(dataset, r"column action is 2 wide in .*file-000\.parquet but 4 wide in .*chunk-001.file-001\.parquet")


def test_a_file_cut_short(dataset):
    path = dataset.write() / "data" / "chunk-000" / "file-001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    refused(dataset, r"file-001\.parquet cannot be read .*altered or cut short")


@pytest.mark.parametrize("part", ["data", "meta/episodes"])
def test_no_frames_downloaded(dataset, part):
    for path in (dataset.write() / part).rglob("*.parquet"):
        path.unlink()
    refused(dataset, rf"has no {part}/chunk-\*/file-\*\.parquet; was it downloaded whole", FileNotFoundError)


def test_no_dataset(dataset):
    refused(dataset, r"holds no LeRobotDataset \(no meta/info\.json\)", FileNotFoundError)


@pytest.mark.parametrize(("text", "said"), [("{", "info.json is not JSON"), ("[]", "no features"), ("{}", "no feat")])
def test_an_altered_description(dataset, text, said):
    (dataset.write() / "meta" / "info.json").write_text(text)
    refused(dataset, said)


def test_without_pyarrow_the_error_says_what_to_install(dataset, monkeypatch):
    dataset.write()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(dataset, r'needs pyarrow: pip install "onestride\[lerobot\]"', ImportError)
