"""Parquet files that claim more than they hold are refused before their columns are read."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from onestride.data import claims
from onestride.data.parquet import read_columns
from onestride.files import CheckpointError


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "data" / "chunk-000" / "file-000.parquet"
    made.parent.mkdir(parents=True)
    return made


def read(folder, columns=("n", "state")):
    return read_columns(folder, "data", list(columns), "chunk-*/*.parquet")


def test_repeated_numbers_beyond_what_any_file_may_claim(path, tmp_path):
    rows = claims.FREE // 8 + 2_000_000  # of zeros: 60 kB
    parquet.write_table(pa.table({"n": np.zeros(rows)}), path)
    with pytest.raises(ValueError, match=r"file-000\.parquet claims 8.\d+e\+07 bytes in a file of \d+ bytes"):
        read(tmp_path, ["n"])


def test_what_repeats_within_reason_is_read(path, tmp_path):
    parquet.write_table(pa.table({"n": np.zeros(100_000), "state": list(np.zeros((100_000, 3)))}), path)
    assert {name: found.shape for name, found in read(tmp_path).items()} == {"n": (100_000, 1), "state": (100_000, 3)}


@pytest.mark.slow
def test_lists_count_as_their_numbers(path, tmp_path):
    rows = claims.FREE // 8 // 100
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(150 * rows)), 150)
    parquet.write_table(pa.table({"n": np.zeros(rows), "state": flat}), path)
    with pytest.raises(ValueError, match=r"claims 1\.01e\+08 bytes"):
        read(tmp_path, ["state"])


def test_a_pipe_is_not_waited_for(path, tmp_path):
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=r"file-000\.parquet is a pipe, expected a file"):
        read(tmp_path)
