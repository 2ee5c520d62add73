"""What a file from outside claims to hold, against what a file of its size can hold."""

from __future__ import annotations

FREE = 64 * 2**20  # [bytes] that any file may claim: arrays of equal numbers compress a thousandfold
RATIO = 100  # of what is claimed to the file's size, beyond that; recorded numbers compress two- to tenfold


def in_short(claimed: int) -> str:
    """Return a size in three digits, whatever was claimed."""
    return f"{min(claimed, 10**300):.3g}"


def check_claim(what: str, claimed: int, size: int) -> None:
    """Raise ValueError where a file of ``size`` bytes claims to unpack to implausibly many bytes.

    Asked before anything is allocated.

    Args:
        what: what claims it, for the message.
        claimed: size after unpacking [bytes].
        size: the file's own [bytes].
    """
    limit = FREE + RATIO * size
    if claimed > limit:
        raise ValueError(
            f"{what} claims {in_short(claimed)} bytes in a file of {size} bytes, expected {limit:.3g} at most: it is "
            "damaged, or made to fill the memory"
        )
