"""One function turns what a driver hands over into the vector that is decided on, or says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onestride.control.sensor import SensorWatch, reader_of
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError, check_numbers, observation_vector
from onestride.tasks import CONTROL_SPECS

NUMBERS = np.array([0.25, -0.5, 3.0, 1e-3])
UNALIGNED = np.frombuffer(b"x" + NUMBERS.tobytes(), np.float64, offset=1)
GIVEN = {
    "float64": NUMBERS,
    "float32": NUMBERS.astype(np.float32),
    "big-endian, of a packet": np.frombuffer(NUMBERS.astype(">f8").tobytes(), ">f8"),
    "big-endian float32": NUMBERS.astype(">f4"),
    "reversed": NUMBERS[::-1].copy()[::-1],
    "every other": np.repeat(NUMBERS, 2)[::2],
    "unaligned": UNALIGNED,
    "long double": NUMBERS.astype(np.longdouble),
    "float16": NUMBERS.astype(np.float16),
    "integers": np.array([3, -2, 0, 2**40]),
    "small integers": np.array([3, 200, 0, 1], np.uint8),
    "list": NUMBERS.tolist(),
    "masked nowhere": np.ma.masked_array(NUMBERS),
}
BAD = {
    "complex": (NUMBERS + 0j, "array of complex128, expected of float"),
    "text": (["0.25", "1", "2", "3"], "array of <U4, expected of float"),
    "objects": (np.array([1.0, None, 2.0, 3.0]), "array of object"),
    "bool": (np.ones(4, bool), "array of bool"),
    "dates": (np.zeros(4, "M8[s]"), "array of datetime64"),
    "ragged": ([1.0, [2.0, 3.0], 4.0, 5.0], r"no array of numbers.*expected \(4,\) of a toy"),
    "a column": (NUMBERS[:, None], r"shape \(4, 1\), expected \(4,\) of a toy"),
    "too few": (NUMBERS[:3], r"shape \(3,\), expected \(4,\) of a toy"),
    "nothing": (None, r"shape \(\)"),
    "NaN": (np.array([0, np.nan, 0, 0]), r"observation\[1\] is nan; check the sensor"),
    "infinite, float16": (np.array([0, 0, -np.inf, 0], np.float16), r"observation\[2\] is -inf; check"),
    "beyond float32": (np.array([0, 0, 0, -1e39]), r"observation\[3\] is -1e\+39, beyond single precision"),
    "beyond float64": (np.array([0, 0, 0, 10], np.longdouble) ** 400, r"observation\[3\] is "),
    "an integer beyond all": ([1, 2, 3, 10**400], "array of object"),
    "masked": (np.ma.masked_array(NUMBERS, [0, 1, 0, 0]), "1 of the observation's numbers are masked"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_whatever_a_driver_hands_over_becomes_one_kind_of_vector(name):
    given = GIVEN[name]
    found = observation_vector(given, 4)
    assert type(found) is np.ndarray
    assert (found.dtype, found.dtype.isnative, found.shape) == (np.float64, True, (4,))
    assert found.flags.carray  # contiguous, aligned, and its own
    np.testing.assert_array_equal(found, np.asarray(given).astype(np.float64))
    assert (found is given) == (name == "float64")  # what is right already costs no copy


def test_what_may_not_be_written_to_may_be_read():
    given = NUMBERS.copy()
    given.setflags(write=False)
    np.testing.assert_array_equal(observation_vector(given, 4), NUMBERS)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_vector_is_refused_with_the_reason(name):
    given, said = BAD[name]
    with pytest.raises(ObservationError, match=said):
        observation_vector(given, 4, " of a toy")


class Driver:
    """Hands over the same object again and again."""

    def __init__(self, given: object) -> None:
        self.given = given

    def read(self):
        return self.given

    def fault(self) -> None:
        return None


@pytest.mark.parametrize("name", [*GIVEN, *BAD])
def test_the_loop_checks_logs_and_decides_on_that_vector(name):
    given = GIVEN[name] if name in GIVEN else BAD[name][0]
    reader = reader_of(Driver(given), ChargedClock(), 4)
    reader.request()
    reading = reader.poll(1.0)
    control = replace(
        CONTROL_SPECS["hopper-v5"](),
        validate_observation=lambda observation: check_numbers(observation, 4, " of a toy"),
    )
    refusal = SensorWatch(control, 1.0).refusal(reading, 0.0)
    if name in BAD:
        assert refusal is not None
        assert refusal.startswith("observation refused: ")
    else:
        assert refusal is None
        assert reading.observation is not given  # which its driver may fill again
        np.testing.assert_array_equal(reading.observation, observation_vector(given, 4))
