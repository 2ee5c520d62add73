"""openpi's messages: what comes back, and what is refused in a line."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from onestride.serving.messages import MOST_KEYS, MessageError, pack, unpack


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<f2", "|u1", "|i1", "<i8", "<u2", "|b1"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_arrays_come_back_as_they_were(kind, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    found = unpack(pack({"x": array, "other": [1, 2.5, "text", None]}))
    assert found["other"] == [1, 2.5, "text", None]
    assert found["x"].dtype == array.dtype
    np.testing.assert_array_equal(found["x"], array)


def test_strides_and_scalars_come_back():
    array = np.arange(24.0).reshape(4, 6)[::2, ::-2]
    found = unpack(pack({"x": array, "scalar": np.float32(0.1), "flag": np.bool_(True)}))
    np.testing.assert_array_equal(found["x"], array)
    assert found["scalar"] == np.float32(0.1)
    assert found["flag"] == np.True_


def test_an_array_is_written_as_openpi_writes_it():
    raw = msgpack.unpackb(pack({"x": np.array([[1.0, 2.0]], "<f4")}), raw=True)
    expected = {
        b"__ndarray__": True,
        b"data": np.array([1.0, 2.0], "<f4").tobytes(),
        b"dtype": b"<f4",
        b"shape": [1, 2],
    }
    assert raw == {b"x": expected}
    keys = msgpack.unpackb(pack({"x": np.zeros(1)}))["x"]
    assert all(isinstance(key, bytes) for key in keys)  # by which openpi's client knows an array


def test_keys_of_text_are_read_too():
    raw = {"__ndarray__": True, "data": b"\0\0\x80?", "dtype": "<f4", "shape": [1]}
    np.testing.assert_array_equal(unpack(msgpack.packb({"x": raw}))["x"], [1.0])


def test_a_prompt_of_numpys_text_is_text():
    raw = {b"__npgeneric__": True, b"data": "pick it up", b"dtype": "<U10"}
    assert unpack(msgpack.packb({"prompt": raw})) == {"prompt": "pick it up"}


def array_of(**changes):
    whole = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb({"x": {k: v for k, v in (whole | {k.encode(): v for k, v in changes.items()}).items()
                                if v is not None}})  # fmt: skip


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "0 bytes is no msgpack map"),
        (b"\xc1", "no msgpack map"),
        (msgpack.packb({"x": 1}) + b"more", "extra data"),
        (b"\x81\xa1x\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\x91" * 3000, "no msgpack map"),
        (b"\x81\xd9\x02\xff\xff\x01", "utf-8"),
        (msgpack.packb(dict.fromkeys(map(str, range(MOST_KEYS + 1)), 0)), "exceeds max_map_len"),
        (msgpack.packb([1, 2]), "a list, expected a map"),
        (msgpack.packb({1: 2}), "not allowed for map key"),
        (msgpack.packb({"x": msgpack.ExtType(5, b"pickle")}), "max_ext_len"),
        (array_of(dtype="|O"), "dtype '|O', expected numbers"),
        (array_of(dtype="i4,O"), "expected numbers"),
        (array_of(dtype="<c8"), "expected numbers"),
        (array_of(dtype="<M8[s]"), "expected numbers"),
        (array_of(dtype=["<f4"]), "expected numbers"),
        (array_of(dtype=None), "lacks one of data, dtype, shape"),
        (array_of(shape=[3]), "has 8 bytes of data, expected 12"),
        (array_of(shape=[-2]), "expected up to 8 whole numbers"),
        (array_of(shape=[True, 2]), "expected up to 8 whole numbers"),
        (array_of(shape=[1] * 9), "expected up to 8 whole numbers"),
        (array_of(shape=[2**30] * 8), "expected"),
        (array_of(shape=[0, *[2**30] * 7], data=b""), "no msgpack map"),
        (array_of(shape="ab"), "expected up to 8 whole numbers"),
        (array_of(data=[0.0, 1.0]), "has a list of data"),
        (array_of(data="text 123"), "has a str of data"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}), "which is no |u1"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"data": b"x", b"dtype": "<f4"}}), "expected a number's"),
    ],
)
def test_what_is_no_message_is_refused_in_a_line(message, said):
    with pytest.raises(MessageError) as refused:
        unpack(message)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_altered_messages_are_read_or_refused_and_nothing_else():
    rng, whole = np.random.default_rng(0), pack({"x": np.arange(6.0).reshape(2, 3), "n": np.float32(1), "t": ["a", 1]})
    refused = 0
    for _ in range(3000):
        altered = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            altered[at] = rng.integers(0, 256)
        altered = altered[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else altered
        try:
            unpack(bytes(altered))
        except MessageError:
            refused += 1
    assert 300 < refused < 3000


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["a"]), np.zeros(1, complex), {1}, object()])
def test_what_cannot_be_sent_is_named(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        pack({"x": value})
