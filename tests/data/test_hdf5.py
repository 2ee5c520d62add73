"""HDF5 from outside: arrays that are not whole in the file, and files that cannot be opened now, by their reasons."""

from __future__ import annotations

import errno
import fcntl
import os

import h5py
import numpy as np
import pytest

from onestride.data.adapters import read_episodes
from onestride.data.d4rl import read_d4rl
from onestride.files import CheckpointError

N = 40


@pytest.fixture
def flat():
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(N, 3)).astype("f4"),
        "actions": rng.uniform(-1, 1, (N, 2)).astype("f4"),
        "rewards": rng.normal(size=N).astype("f4"),
        "terminals": np.arange(N) % 10 == 9,
    }


@pytest.fixture
def write(flat, tmp_path):
    """A file of these arrays, where ``make(file)`` adds what is left away."""

    def written(make=lambda file: None, without=("observations",), name="a.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in flat.items():
                if key not in without:
                    file[key] = value
            make(file)
        return tmp_path / name

    return written


def refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_d4rl(path)
    assert "a.hdf5" in str(caught.value)


# ---- arrays that are not whole in the file ----

VIRTUAL = h5py.VirtualLayout((N, 3), "f4")
VIRTUAL[:] = h5py.VirtualSource("elsewhere.hdf5", "observations", shape=(N, 3))


def partly(file):
    found = file.create_dataset("observations", (N, 3), "f4", chunks=(10, 3), fillvalue=7)
    found[:20] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.create_dataset("observations", (10**12, 3), "f4"), "claims 1.2e.13 bytes in a file of"),
        (lambda f: f.create_dataset("observations", (2**62,) * 30, "f4", chunks=(1,) * 30), r"claims 1e\+300 bytes"),
        (lambda f: f.create_dataset("observations", (10**12, 3), "f4", chunks=(10, 3)), "claims 1.2e.13 bytes"),
        (lambda f: f.create_dataset("observations", (N, 3), "f4"), r"\(40, 3\) was never written \(0 of 480 bytes"),
        (partly, r"was not written whole: 2 of 4 chunks are missing"),
        (
            lambda f: f.create_dataset("observations", (N, 3), "f4", chunks=(10**8, 3), maxshape=(None, 3)),
            r"in chunks of \(100000000, 3\) claims 1.2e.09 bytes",
        ),
        (lambda f: f.create_virtual_dataset("observations", VIRTUAL, fillvalue=0), "is virtual: its numbers stand in"),
        (
            lambda f: f.create_dataset("observations", (N, 3), "f4", external=[("raw.bin", 0, N * 12)]),
            r"stands in other files \(raw\.bin\), which are not read",
        ),
        (
            lambda f: f.create_dataset("observations", data=[["a", "b"]] * N, dtype=h5py.string_dtype()),
            "expected numbers",
        ),
        (
            lambda f: h5py.h5d.create(f.id, b"observations", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((N, 3))),
            "holds a type that NumPy does not have",
        ),
        (lambda f: f.create_dataset("observations", data=h5py.Empty("f4")), "has no shape and no numbers"),
    ],
    ids=[
        "claimed",
        "far more",
        "claimed chunks",
        "unwritten",
        "partly",
        "chunk",
        "virtual",
        "external",
        "text",
        "time",
        "empty",
    ],
)
def test_what_hdf5_would_make_up_is_refused(write, make, message):
    refused(write(make), f"observations .*{message}")


def test_what_is_written_whole_is_read(write, flat):
    def make(file):
        file.create_dataset("observations", data=flat["observations"], chunks=(7, 2), compression="gzip", shuffle=True)

    (first, *_) = read_d4rl(write(make))
    np.testing.assert_array_equal(first.observations[:10], flat["observations"][:10])


# ---- links ----


def link(name, path="/observations"):
    return lambda file: file.__setitem__("observations", h5py.ExternalLink(name, path))


def test_a_linked_file_in_the_folder_is_read(write, flat, tmp_path):
    with h5py.File(tmp_path / "part.hdf5", "w") as file:
        file["data/o"] = flat["observations"]
    for name, path in (("part.hdf5", "/data/o"), (str(tmp_path / "part.hdf5"), "data/o")):
        (first, *_) = read_d4rl(write(link(name, path)))
        np.testing.assert_array_equal(first.observations[:10], flat["observations"][:10])
    with h5py.File(tmp_path / "part.hdf5", "r+"):  # it is closed again
        pass


def test_a_link_within_the_file_is_read(write, flat):
    def make(file):
        file["of/it"] = flat["observations"]
        file["observations"] = h5py.SoftLink("/of/it")

    assert len(list(read_d4rl(write(make)))) == N // 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (link("elsewhere.hdf5"), r"observations stands in elsewhere\.hdf5, which is not there; fetch it too, into"),
        (link("../part.hdf5"), r"observations stands in \.\./part\.hdf5, out of the folder: not read; copy it into"),
        (link("/etc/passwd"), "out of the folder"),
        (link("text.hdf5"), "stands in .*text.hdf5, which cannot be read"),
        (link("a.hdf5"), "is a link to a link, more than 8 times"),
        (link("a.hdf5", "/nothing/here"), "stands at /nothing/here of .*, which is not there"),
        (lambda f: f.__setitem__("observations", h5py.SoftLink("/gone")), "stands at /gone of .*, which is not there"),
    ],
    ids=["gone", "outside", "absolute", "text", "itself", "no such array", "soft"],
)
def test_links_that_lead_nowhere(write, tmp_path, make, message):
    (tmp_path / "text.hdf5").write_text("hello")
    refused(write(make), message)


def test_a_link_to_a_pipe_is_not_waited_for(write, tmp_path):
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(CheckpointError, match=r"pipe\.hdf5 is a pipe, expected a file"):
        read_d4rl(write(link("pipe.hdf5")))


# ---- files that cannot be opened now ----


def test_one_that_is_being_written(write, tmp_path):
    path = write(without=())
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # as HDF5 does while it writes
        refused(path, r"has it open for writing\. Wait until it is closed; .*HDF5_USE_FILE_LOCKING=FALSE")
    assert len(list(read_d4rl(path))) == N // 10


@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        (errno.ENOLCK, "unable to lock file", "HDF5_USE_FILE_LOCKING=FALSE"),
        (errno.EACCES, "permission denied", "not permitted to you"),
        (None, "file is already open for write (may use <h5clear file>)", "run h5clear -s"),
        (errno.EIO, "input/output error", "download it again"),
    ],
)
def test_advice_fits_what_the_system_says(write, monkeypatch, code, said, advice):
    def fails(*_):
        raise OSError(code, said) if code else OSError(said)

    path = write(without=())
    monkeypatch.setattr("onestride.data.hdf5.h5py.is_hdf5", lambda _: True)
    monkeypatch.setattr("onestride.data.hdf5.h5py.File", fails)
    refused(path, f"{advice}.*{said[:12]}")


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.hdf5").touch()
    refused(tmp_path / "a.hdf5", r"is empty \(0 bytes\)")


def test_a_timeout_every_step_leaves_no_episode(write, flat):
    flat["timeouts"] = np.ones(N, bool)
    flat["terminals"][:] = False
    with pytest.raises(ValueError, match=r"a\.hdf5: not one episode is left\. Each has a single step.*\(timeouts\)"):
        list(read_episodes(write(without=())))
