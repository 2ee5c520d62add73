"""Ways to damage a file, each a function of a seeded generator: bytes, the JSON in them, and what the path is."""

from __future__ import annotations

import json
import os
import re
import shutil


def mutate(root, files, rng):
    """Damage one of the files below ``root``; returns what was done to which, in words."""
    name = files[rng.integers(len(files))]
    path = root / name
    kinds = [_bytes, _bytes, _place]
    if path.suffix in (".json", ".jsonl"):
        kinds += [_json] * 4
    return f"{name}: {kinds[rng.integers(len(kinds))](path, files, rng)}"


# ---- bytes ----


def _flip(raw, rng):
    at = int(rng.integers(len(raw)))
    raw[at] ^= 1 << int(rng.integers(8))
    return f"bit flipped in byte {at}"


def _flip_early(raw, rng):
    at = int(rng.integers(min(len(raw), 512)))
    raw[at] ^= 1 << int(rng.integers(8))
    return f"bit flipped in byte {at}, at the beginning"


def _cut(raw, rng):
    left = int(rng.integers(len(raw)))
    del raw[left:]
    return f"cut to {left} bytes"


def _cut_at_a_line(raw, rng):
    ends = [m.end() for m in re.finditer(b"\n", bytes(raw[:-1]))] or [len(raw) // 2]
    left = ends[rng.integers(len(ends))]
    del raw[left:]
    return f"cut to {left} bytes, at a line's end"


def _zeros(raw, rng):
    at, count = int(rng.integers(len(raw))), int(rng.integers(1, 256))
    count = len(raw[at : at + count])
    raw[at : at + count] = bytes(count)
    return f"{count} zeros from byte {at}"


def _append(raw, rng):
    count = int(rng.integers(1, 64))
    raw += rng.bytes(count)
    return f"{count} bytes more"


def _swap(raw, rng):
    size = max(1, len(raw) // 8)
    a, b = (int(x) * size for x in rng.integers(8, size=2))
    raw[a : a + size], raw[b : b + size] = raw[b : b + size], raw[a : a + size]
    return f"blocks of {size} bytes at {a} and {b} swapped"


def _insert(raw, rng):
    at, count = int(rng.integers(len(raw))), int(rng.integers(1, 32))
    raw[at:at] = rng.bytes(count)
    return f"{count} bytes inserted at {at}"


def _header(raw, rng):
    size = [0, 1 << 16, 1 << 31, (1 << 63) - 1, (1 << 64) - 1][rng.integers(5)]
    raw[:8] = size.to_bytes(8, "little")
    return f"the first 8 bytes say {size}"


def _digits(raw, rng):
    numbers = list(re.finditer(rb"\d+", bytes(raw)))
    if not numbers:
        return _flip(raw, rng)
    found = numbers[rng.integers(len(numbers))]
    new = [b"0", b"9" * 5000, b"-1", b"1e999", str(rng.integers(1, 1 << 40)).encode()][rng.integers(5)]
    raw[found.start() : found.end()] = new
    return f"the number at byte {found.start()} is {new[:20].decode()}"


BYTES = (_flip, _flip, _flip_early, _cut, _cut_at_a_line, _zeros, _append, _swap, _insert, _header, _digits)


def _bytes(path, files, rng):
    raw = bytearray(path.read_bytes())
    said = BYTES[rng.integers(len(BYTES))](raw, rng)
    path.write_bytes(raw)
    return said


# ---- JSON ----

WRONG = (None, True, -1, 0, 0.5, 10**12, 10**30, "text", "", [], [1, 2], {}, {"a": 1})
RAW = ("NaN", "-Infinity", "1e999", "7" * 5000, "[" * 100_000, '"\ud800"')


def _json(path, files, rng):
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = int(rng.integers(len(lines)))
    if len(lines) > 1 and rng.random() < 0.2:
        lines.insert(int(rng.integers(len(lines))), lines[at])
        said = f"line {at + 1} doubled"
    else:
        value = json.loads(lines[at])
        said, lines[at] = _edit(value, rng)
    path.write_text("".join(line + "\n" for line in lines), errors="surrogatepass")
    return said


def _edit(value, rng):
    """One edit of parsed JSON; returns what it was and the new text."""
    places = list(_places(value))
    if not places or rng.random() < 0.05:
        new = WRONG[rng.integers(len(WRONG))]
        return f"all of it is {new}", json.dumps(new)
    holder, key, where = places[rng.integers(len(places))]
    kind = rng.integers(5)
    if kind == 0:
        del holder[key]
        return f"{where} removed", json.dumps(value)
    if kind == 1:
        raw = RAW[rng.integers(len(RAW))]
        holder[key] = "@here@"
        return f"{where} is {raw[:20]!a}", json.dumps(value).replace('"@here@"', raw)
    if kind == 2 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * 1.01 + 1
        return f"{where} is {holder[key]}", json.dumps(value)
    if kind == 3 and isinstance(holder, dict):
        holder["unknown"] = holder[key]
        return f"unknown beside {where}", json.dumps(value)
    holder[key] = WRONG[rng.integers(len(WRONG))]
    return f"{where} is {holder[key]!r}", json.dumps(value)


def _places(value, where="$"):
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key, f"{where}.{key}"
        yield from _places(value[key], f"{where}.{key}")


# ---- what the path is ----


def _place(path, files, rng):
    kind = rng.integers(8)
    if kind == 7 and len(files) > 1:
        siblings = [p for p in path.parent.iterdir() if p.is_file() and p != path]
        if siblings:
            other = siblings[rng.integers(len(siblings))]
            shutil.copyfile(other, path)
            return f"a copy of {other.name}"
    if kind == 6:
        os.truncate(path, 1 << 40)
        return "a terabyte, of which nothing is on disk"
    path.unlink()
    if kind == 0:
        path.touch()
        return "empty"
    if kind == 1:
        path.mkdir()
        return "a folder"
    if kind == 2:
        os.mkfifo(path)
        return "a pipe"
    if kind == 3:
        path.symlink_to("/dev/zero")
        return "a link to a device"
    if kind == 4:
        path.symlink_to(path.name)
        return "a link to itself"
    return "gone"
