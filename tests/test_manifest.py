"""Files that are read are those that were written."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress

import pytest

from onestride.files import CheckpointError
from onestride.manifest import Manifest, digest, read_manifest, write_manifest


class Numbers(Manifest, forbid_unknown_fields=True, kw_only=True):
    numbers: dict[str, float]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(range(100)))
    write_manifest(tmp_path / "m.json", {"numbers": {"pi": math.pi, "tiny": 5e-324, "whole": 3}}, ["weights"])
    return tmp_path / "m.json"


def refused(path, message, named="m.json"):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_manifest(path, Numbers, "make it again")
    assert str(path.parent / named) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_come_back_to_the_bit(path):
    assert read_manifest(path, Numbers, "")["numbers"] == {"pi": math.pi, "tiny": 5e-324, "whole": 3}


def test_spaces_and_order_say_nothing(path):
    found = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(found.items())), indent=7))
    read_manifest(path, Numbers, "")


def test_every_flipped_bit_of_a_manifest_is_refused_or_says_the_same(path):
    raw, before, same = path.read_bytes(), read_manifest(path, Numbers, ""), 0
    for at in range(len(raw)):
        for bit in range(8):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])
            with suppress(CheckpointError):
                assert read_manifest(path, Numbers, "") == before
                same += 1
    assert same < 0.1 * 8 * len(raw)  # a space that became a tab


def test_every_flipped_byte_of_a_file_is_refused(path):
    weights = path.parent / "weights"
    raw = weights.read_bytes()
    for at in range(len(raw)):
        weights.write_bytes(raw[:at] + bytes([raw[at] ^ 16]) + raw[at + 1 :])
        refused(path, "weights is not what was written: it was altered .*; make it again", "weights")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.write_bytes(bytes(99)), "has 99 bytes, expected 100"),
        (lambda p: os.truncate(p, 1 << 40), "has 1099511627776 bytes, expected 100"),  # not read
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "is a pipe, expected a file"),
        (lambda p: (p.unlink(), p.symlink_to("/dev/zero")), "is a device, expected a file"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder, expected a file"),
    ],
)
def test_what_is_no_such_file_is_not_opened(path, spoil, message):
    spoil(path.parent / "weights")
    refused(path, message, "weights")


@pytest.mark.parametrize("name", ["../out", "/etc/hostname", "a/../../out"])
def test_a_path_out_of_the_folder_is_refused(path, name):
    found = json.loads(path.read_text())
    del found["sha256"]
    found["files"][name] = {"bytes": 1, "sha256": "0"}
    path.write_text(json.dumps(found | {"sha256": digest(found)}))
    refused(path, "is not in its folder")
