"""Frames that are no request to a policy server, of many kinds.

It imports nothing of onestride: openpi's client is made to send them too, in a Python of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import numpy as np

#: What is msgpack, and no request.
ODD = [
    {"state": None},
    {"state": {}},
    {"state": [[1], [2, 3]]},
    {"state": [0.0] * 9},
    {"state": [float("nan"), 0.0, 0.0]},
    {"state": "0 0 0"},
    {"arm": 1},
    {"endpoint": "x"},
    {"endpoint": {b"__ndarray__": True, b"dtype": "|u1", b"data": b"\0\1", b"shape": [2]}},
    {"endpoint": "reset", "seed": -1},
    {"state": {b"__ndarray__": True, b"dtype": "|O", b"data": b"", b"shape": [0]}},
    {"state": {b"__ndarray__": True, b"dtype": "<f8", b"data": b"", b"shape": [2**62, 2**62]}},
    [],
    7,
    None,
]


def frames(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes | str]:
    """Noise, a request cut short, one with bytes altered, and odd ones; now and then text.

    Args:
        whole: a request that can be answered.
        count: how many.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    for n in range(count):
        if n % 50 == 0:
            yield "text" * (n % 7)
        elif n % 4 == 0:
            yield rng.bytes(int(rng.integers(0, 200)))
        elif n % 4 == 1:
            yield whole[: int(rng.integers(0, len(whole)))]
        elif n % 4 == 2:
            altered = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                altered[at] = rng.integers(0, 256)
            yield bytes(altered)
        else:
            yield bytes(msgpack.packb(ODD[n // 4 % len(ODD)]))


class Tally:
    """What came back: every answer is actions, or one line of text."""

    def __init__(self) -> None:
        self.answered = self.longest = 0
        self.refused: dict[str, int] = {}

    def add(self, answer: bytes | str) -> None:
        """Count an answer.

        Raises:
            AssertionError: it is neither.
        """
        if isinstance(answer, bytes):  # a few altered numbers are numbers still
            assert "actions" in msgpack.unpackb(answer)
            self.answered += 1
            return
        assert "\n" not in answer, answer
        assert "Traceback" not in answer, answer
        kind = answer.split(":")[0]
        self.refused[kind] = self.refused.get(kind, 0) + 1
        self.longest = max(self.longest, len(answer))

    def check(self, count: int) -> None:
        """Raise AssertionError unless ``count`` frames were answered, nearly all by an error of two kinds."""
        assert set(self.refused) == {"bad request", "observation refused"}, self.refused
        assert sum(self.refused.values()) + self.answered == count
        assert self.answered < count / 20, self.answered
        assert self.longest <= 1000, self.longest
