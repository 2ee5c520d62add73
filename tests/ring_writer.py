"""A process that writes records whose numbers are all the same, as fast as it can."""

from __future__ import annotations


def write(ring, records):
    for number in range(records):
        ring.slot["numbers"] = number
        ring.publish()
