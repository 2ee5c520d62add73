"""Plausibility of the sizes that external files claim."""

from __future__ import annotations

FREE = 64 * 2**20  # any file may claim this, because arrays of equal numbers compress a thousandfold [bytes]
RATIO = 100  # largest ratio of a claim beyond that to the file's size; recorded numbers compress two- to tenfold


def in_short(claimed: int) -> str:
    """Return a claimed size in three digits, however large it is."""
    return f"{min(claimed, 10**300):.3g}"


def check_claim(what: str, claimed: int, size: int) -> None:
    """Raise ValueError where a file claims to unpack to implausibly many bytes. Called before memory is allocated.

    Args:
        what: what claims the size, for the message.
        claimed: size after unpacking [bytes].
        size: of the file [bytes].
    """
    limit = FREE + RATIO * size
    if claimed > limit:
        raise ValueError(
            f"{what} claims {in_short(claimed)} bytes in a file of {size} bytes, expected {limit:.3g} at most: it is "
            "damaged, or made to fill the memory"
        )
