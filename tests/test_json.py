"""JSON of ours is read as the records it should hold, or refused in one line that says where and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import pytest

from onestride import files
from onestride.files import CheckpointError, read_json, read_lines


@dataclass(frozen=True)
class Part:
    name: str
    sizes: list[int]


@dataclass(frozen=True)
class Record:
    count: int
    share: float = 1.0
    parts: tuple[Part, ...] = ()


def refusal(call, path, kind):
    with pytest.raises(CheckpointError) as caught:
        call(path, kind)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) < 400 + len(str(path))
    return said


def test_a_record_comes_back(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"count": 3, "share": 1, "parts": [{"name": "x", "sizes": [1, 2]}], "later": null}')
    assert read_json(path, Record) == Record(3, 1.0, (Part("x", [1, 2]),))
    assert read_json(path)["later"] is None


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"count": 3}')
    assert read_json(path, Record) == Record(3)


DAMAGES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "cut": (b'{"count": 3, "sh', "truncated.*cut short"),
    "utf-16": ('{"count": 3}'.encode("utf-16"), "UTF-16, expected UTF-8"),
    "latin-1": (b'{"count": 3, "parts": [{"name": "\xe9", "sizes": []}]}', "not UTF-8"),
    "nan": (b'{"count": 3,\n "share": NaN}', "NaN is no number, line 2"),
    "infinity": (b'{"count": 3,\n "share": -Infinity}', "line 2"),
    "too large": (b'{"count": 3, "share": 1e999}', r"out of range.*\$\.share"),
    "5000 digits": (b'{"count": ' + b"9" * 5000 + b"}", r"out of range.*\$\.count"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, r"Expected `object`, got `array`"),
    "deep inside": (b'{"count": 3, "later": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "a list for a number": (b'{"count": [3]}', r"Expected `int`, got `array` - at `\$\.count`"),
    "a text for a number": (b'{"count": "3"}', r"Expected `int`, got `str` - at `\$\.count`"),
    "a fraction": (b'{"count": 3.5}', r"Expected `int`, got `float` - at `\$\.count`"),
    "a truth": (b'{"count": true}', r"Expected `int`, got `bool` - at `\$\.count`"),
    "missing": (b'{"share": 0.5}', "missing required field `count`"),
    "missing inside": (b'{"count": 3, "parts": [{"name": "x"}]}', r"missing required field `sizes` - at `\$\.parts"),
    "another thing": (b"null", "Expected `object`, got `null`"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_is_said_in_one_line(tmp_path, name):
    data, message = DAMAGES[name]
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert re.search(message, refusal(read_json, path, Record)), refusal(read_json, path, Record)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b"1e999", b"NaN", b"\xff"])
def test_also_where_anything_would_do(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_json(path)


def test_a_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"count": 1}\n{"count": 2}\n{"count": []}\n')
    assert f"{path}, line 3" in refusal(read_lines, path, Record)
    path.write_text('{"count": 1}\n{"count": 2}\n')
    assert read_lines(path, Record) == [Record(1), Record(2)]


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with path.open("wb") as f:
        f.truncate(files.LARGEST + 1)
    monkeypatch.setattr(type(path), "read_bytes", lambda _: pytest.fail("it was read"))
    assert "expected at most" in refusal(read_json, path, Record)


def test_pipes_and_what_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refusal(read_json, tmp_path / "pipe", Record)
    assert "No such file" in refusal(read_json, tmp_path / "nothing", Record)
