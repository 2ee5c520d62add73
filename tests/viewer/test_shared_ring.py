"""Records between processes: whole, in order, and never waited for."""

from multiprocessing import get_context

import numpy as np
import pytest

from onestride.viewer.shared_ring import SharedRing
from ring_writer import write

NUMBERS = np.dtype([("numbers", "f8", (2000,))])


def numbers(records):
    return [float(each) for each in records["numbers"][:, 0]]


def test_a_reader_gets_every_record_once_and_misses_what_was_overwritten():
    ring = SharedRing(NUMBERS, 4)
    assert ring.newest() is None
    write(ring, 2)
    records, count = ring.since(0)
    assert (numbers(records), count) == ([0.0, 1.0], 2)
    assert len(ring.since(count)[0]) == 0
    write(ring, 7)  # numbers 0 to 6, of which the oldest slot may be half overwritten at any time
    records, count = ring.since(count)
    assert (numbers(records), count) == ([4.0, 5.0, 6.0], 9)
    assert ring.newest()["numbers"][0] == 6.0


def test_what_was_read_is_a_copy():
    ring = SharedRing(NUMBERS, 2)
    write(ring, 1)
    kept = ring.newest()
    write(ring, 5)
    assert kept["numbers"].max() == 0.0


def test_records_from_another_process_are_whole_and_in_order():
    """A record of 16 kB takes far longer to write than a reader needs to find it half written."""
    ring, total = SharedRing(NUMBERS, 3), 20_000
    writer = get_context("spawn").Process(target=write, args=(ring, total))
    writer.start()
    seen, count = [], 0
    while count < total:
        assert writer.is_alive() or ring.count == total
        records, count = ring.since(count)
        for record in records["numbers"]:
            assert (record == record[0]).all()
        seen += numbers(records)
    writer.join()
    assert seen == sorted(set(seen))
    assert seen[-1] == total - 1


def test_one_record_is_no_ring():
    with pytest.raises(ValueError, match="capacity is 1, expected at least 2"):
        SharedRing(NUMBERS, 1)
