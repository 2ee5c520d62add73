"""Memory that is taken once."""

import numpy as np
import pytest

from onestride.control.ring_buffer import RingBuffer


def test_the_last_rows_are_kept_in_order():
    ring = RingBuffer(3, 2)
    assert ring.rows.shape == (0, 2)
    ring.extend(np.array([[k, 10 * k] for k in range(5)], dtype=float))
    np.testing.assert_array_equal(ring.rows, [[2, 20], [3, 30], [4, 40]])
    assert ring.count == 5


def test_adding_takes_no_memory():
    ring = RingBuffer(4, 1)
    before = ring._rows.nbytes, ring._rows.__array_interface__["data"]
    for k in range(1000):
        ring.add(float(k))
    assert (ring._rows.nbytes, ring._rows.__array_interface__["data"]) == before


def test_a_ring_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        RingBuffer(0, 2)
