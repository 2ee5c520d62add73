"""A disk that is full while a dataset is written: an error that can be caught, and nothing left."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.data.minari import MAIN, read_dataset, write_dataset


@contextmanager
def files_of_at_most(size):
    """For the process, as a full disk: a write beyond this many bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def episodes():
    rng = np.random.default_rng(0)
    shapes = (9, 3), (8, 2), (8,)
    return [Episode(*(rng.normal(size=s).astype(np.float32) for s in shapes), terminated=False) for _ in range(20)]


def write(folder, episodes):
    write_dataset(folder, episodes, len(episodes), {"task": "point"}, Box(-1, 1, (2,), np.float32))


@pytest.mark.parametrize("limit", [300, 5_000, 100_000, -1], ids=["metadata", "start", "middle", "end"])
def test_wherever_it_runs_out_nothing_is_left_and_it_goes_on_afterwards(episodes, tmp_path, limit):
    write(tmp_path / "whole", episodes)
    size = (tmp_path / "whole" / MAIN).stat().st_size
    assert size > 100_000
    limit = size - 1 if limit < 0 else limit
    with (
        files_of_at_most(limit),
        pytest.raises(OSError, match=r"could not write .*/data: File too large; nothing was written") as caught,
    ):
        write(tmp_path / "data", episodes)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    write(tmp_path / "data", episodes)
    assert len(list(read_dataset(tmp_path / "data"))) == 20


def test_room_is_asked_for_as_it_is_taken(episodes, tmp_path, monkeypatch):
    """Not for the numbers alone: the format's own tables take more than short episodes do."""
    asked = []
    monkeypatch.setattr("onestride.data.minari.ensure_free_space", lambda folder, size: asked.append(size))
    write(tmp_path / "data", episodes)
    assert asked[-1] == (tmp_path / "data" / MAIN).stat().st_size


def test_what_a_writer_says_of_its_own_is_not_taken_for_a_full_disk(episodes, tmp_path):
    def broken():
        yield episodes[0]
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        write_dataset(tmp_path / "data", broken(), 2, {}, Box(-1, 1, (2,), np.float32))
    assert not list(tmp_path.iterdir())
