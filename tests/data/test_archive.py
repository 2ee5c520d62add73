"""Zips and arrays from outside: what claims too much, or is of a kind no writer of arrays makes, is refused unread."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from onestride.data.adapters import read_episodes
from onestride.data.archive import array_names, open_archive, parse_object
from onestride.data.claims import FREE
from onestride.files import CheckpointError


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, dtype="<f4", body=b""):
    """An .npy of any claim."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def write(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, raw in members:
            file.writestr(name, raw)
    return path


def alter(path, change):
    """``change(flags, method, compressed, size)`` for every member, in both of its headers."""
    raw = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.find(signature)
        while start >= 0:
            for field, (offset, form) in {"flags": (0, "<H"), "method": (2, "<H"), "size": (16, "<I")}.items():
                if field in change:
                    struct.pack_into(form, raw, start + at + offset, change[field])
            start = raw.find(signature, start + 4)
    path.write_bytes(raw)
    return path


def read_all(path):
    with open_archive(path) as archive:
        return {name: archive.read_array(name) for name in array_names(archive)}


def refused(path, message):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read_all(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6  # nothing was allocated for it
    finally:
        tracemalloc.stop()


def test_arrays_are_what_numpy_reads(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "o": rng.normal(size=(7, 3)),
        "columns": np.asfortranarray(rng.normal(size=(7, 3)).astype("f4")),
        "big": rng.integers(-9, 9, (4,)).astype(">i2"),
        "marks": np.array([True, False]),
        "none": np.zeros((0, 3), "f4"),
        "one": np.array(2.5),
        "infos/qpos": np.arange(3, dtype=np.uint8),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_all(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (header("(1000000000000,)"), r"'a\.?' claims 4e\+12 bytes of float32, found 0: it is damaged"),
        (header("(4, 1000000)", body=b"0" * 16), r"claims 1\.6e\+07 bytes of float32, found 16"),
        (header("(-1, -4)", body=b"0" * 16), "it is damaged"),
        (header(f"({10**4000},)"), r"claims 1e\+300 bytes"),
        (header("(2,)", body=b"0" * 16), "claims 8 bytes of float32, found 16"),
        (header("(1,)", "|O", b"\x80\x04N."), "holds Python objects"),
        (header("(1,)", "<U4", b"0" * 16), "holds <U4, expected numbers"),
        (header("(1,)", "<nothing"), "is no array"),
        (header("(" * 5000), "is no array"),
        (header("-" * 9000 + "1"), "is no array"),
        (b"\x93NUMPY\x09\x00" + npy(np.zeros(2))[8:], "is no array|of a version"),
        (b"nothing", "is no array"),
        (b"", "is no array"),
    ],
)
def test_headers_that_cannot_be(tmp_path, raw, message):
    refused(write(tmp_path / "a.npz", [("a.npy", raw)]), message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.npy", "out of the folder"),
        ("x/../../a.npy", "out of the folder"),
        ("/etc/a.npy", "out of the folder"),
        ("C:/a.npy", "out of the folder"),
        ("..\\a.npy", "out of the folder"),
    ],
)
def test_names_out_of_the_folder(tmp_path, name, message):
    refused(write(tmp_path / "a.npz", [(name, npy(np.zeros(2)))]), message)


def test_a_name_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write(tmp_path / "a.npz", [("a.npy", npy(np.zeros(2))), ("a.npy", npy(np.ones(2)))])
    refused(path, r"more than one member named 'a\.npy'")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path, method):
    refused(write(tmp_path / "a.npz", [("a.npy", npy(np.zeros(2)))], method), f"compressed by method {method}")


def test_encrypted(tmp_path):
    path = write(tmp_path / "a.npz", [("a.npy", npy(np.zeros(2)))])
    refused(alter(path, {"flags": 1}), "encrypted, which is not read: write it without a password")


@pytest.mark.slow
def test_a_bomb(tmp_path):
    path = write(tmp_path / "a.npz", [("a.npy", header(f"({2 * FREE},)", "|u1", bytes(2 * FREE)))])
    assert path.stat().st_size < 1e6
    refused(path, r"it claims 1\.34e\+08 bytes in a file of \d+ bytes, expected .* at most")


@pytest.mark.slow
def test_a_bomb_that_claims_little(tmp_path):
    """It is unpacked to the size that it claims, no further."""
    path = write(tmp_path / "a.npz", [("a.npy", header(f"({2 * FREE},)", "|u1", bytes(2 * FREE)))])
    refused(alter(path, {"size": 1000}), "Bad CRC-32|found 9")


def test_members_that_overlap(tmp_path):
    path = write(tmp_path / "a.npz", [("a.npy", npy(np.random.default_rng(0).normal(size=1000)))])
    raw = path.read_bytes()
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry = raw[start:end]
    other = entry.replace(b"a.npy", b"b.npy")
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), start, 0)
    path.write_bytes(raw[:start] + entry + other + tail)
    refused(path, "overlap")


def test_pipes_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    os.mkfifo(tmp_path / "a.hdf5")
    for name in ("a.npz", "a.hdf5"):
        with pytest.raises(CheckpointError, match=rf"{name.replace('.', '.')} is a pipe, expected a file"):
            read_episodes(tmp_path / name)


def test_settings():
    assert parse_object("data", b'{"a": 1}') == {"a": 1}
    for raw in (b"[" * 100_000, b"\xff", b"{", b'{"a": ' + b"9" * 5000 + b"}"):
        with pytest.raises(ValueError, match="'data' is not the JSON of settings"):
            parse_object("data", raw)
    with pytest.raises(ValueError, match="expected 'data' to be an object of settings, got list"):
        parse_object("data", b"[1]")
