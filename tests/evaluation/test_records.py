"""Records: whole lines of the last training, each one held against its digest."""

import json
import os
import re

import pytest

from onestride.evaluation.records import Store, add_records, read_records
from onestride.files import CheckpointError


def line(n, **fields):
    return {"row": "dnk", "seed": 0, "episode": n, **fields}


def test_reading_records_writes_nothing_and_adding_drops_a_cut_line(tmp_path):
    """A kill while a finished evaluation was looked at left nothing of it."""
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 2)) + '{"row"')
    os.utime(path, (0, 0))
    assert read_records(path) == [line(1), line(2)]
    assert path.stat().st_mtime == 0
    add_records(path, [line(3), line(4)])
    assert read_records(path) == [line(n) for n in (1, 2, 3, 4)]
    add_records(tmp_path / "new.jsonl", [line(1)])
    assert read_records(tmp_path / "new.jsonl") == [line(1)]
    with pytest.raises(OSError, match=r"could not write .*what was there is kept"):
        add_records(tmp_path / "nowhere" / "x.jsonl", [line(1)])


@pytest.mark.slow
def test_every_flipped_bit_of_a_record_is_refused_by_file_and_line(tmp_path):
    path = tmp_path / "episodes.jsonl"
    records = [{"row": "dnk", "seed": 0, "scene": n, "ms": [0.25, n / 3]} for n in range(3)]
    add_records(path, records)
    whole = path.read_bytes()
    second = range(whole.index(b"\n") + 1, whole.rindex(b"\n", 0, -1) + 1)
    for at in second:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        if b'"digest": "' in path.read_bytes().split(b"\n")[1]:
            with pytest.raises(CheckpointError, match=re.escape(f"{path}, line ")):
                read_records(path)
    path.write_bytes(whole[:-1] + b"*")  # no kill leaves this
    with pytest.raises(CheckpointError, match="line 3 is not JSON"):
        read_records(path)
    for left in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):  # but any of these
        path.write_bytes(whole[:left])
        assert read_records(path) == records[:2]


def test_records_from_before_there_were_digests_are_read(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 2)))
    assert read_records(path) == [line(1), line(2)]
    path.write_text(f'{json.dumps(line(1))}\n{{"row": \n{json.dumps(line(3))}\n')
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl, line 2 is not JSON"):
        read_records(path)


@pytest.mark.parametrize("wrong", [{"a": 1}, {"row": "dnk"}, line("one"), line(0, row=["dnk"])])
def test_a_line_that_is_no_record_is_refused(tmp_path, wrong):
    path = tmp_path / "episodes.jsonl"
    add_records(path, [line(0), wrong])
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl, line 2: "):
        read_records(path)


def test_records_of_a_former_training_stay_and_are_not_read(tmp_path):
    path = tmp_path / "episodes.jsonl"
    first, second = ({"checkpoint": name, "selector": None} for name in ("a", "b"))

    def store(maker):
        return Store(path, {("dnk", 0): maker, ("kdm", 0): first})

    store(first).add("dnk", 0, [{"episode": n, "return_raw": 1.0} for n in range(3)])
    store(first).add("kdm", 0, [{"episode": 0, "return_raw": 2.0}])
    anew = store(second)
    assert (anew.begun, anew.stale, anew.done, anew.episodes) == (True, {("dnk", 0)}, {("kdm", 0, 0)}, 1)
    assert anew.add("dnk", 0, [{"episode": 0, "return_raw": 3.0}]) == [line(0, return_raw=3.0, **second)]
    assert [(r["row"], r["return_raw"]) for r in read_records(path)] == [("kdm", 2.0), ("dnk", 3.0)]
    assert len(path.read_text().splitlines()) == 5
    again = store(first)  # who goes back to the first begins anew too
    again.add("dnk", 0, [{"episode": 2, "return_raw": 4.0}])
    assert [(r["episode"], r["return_raw"]) for r in read_records(path) if r["row"] == "dnk"] == [
        (0, 1.0), (1, 1.0), (2, 4.0),
    ]  # fmt: skip


def test_what_is_there_is_not_added_again(tmp_path):
    store = Store(tmp_path / "episodes.jsonl", {("dnk", 0): {"checkpoint": "a", "selector": None}})
    store.add("dnk", 0, [{"episode": 0}])
    assert [r["episode"] for r in store.add("dnk", 0, [{"episode": 0}, {"episode": 1}])] == [1]
    assert [r["episode"] for r in store.records] == [0, 1] == [r["episode"] for r in read_records(store.path)]
