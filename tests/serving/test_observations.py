"""By which names and in which shapes observations come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import Field, camera, pack
from onestride.serving.messages import MessageError
from onestride.serving.messages import pack as packed
from onestride.serving.observations import example_of, largest, request_of, steps_of
from onestride.tasks import CONTROL_SPECS
from served import spec_of

BODY = spec_of()
FIELDS = (Field("arm", (2,), "rad"), Field("grip", (1,)), camera("top", 4, 6), camera("wrist", 2, 2))
SEEN = {
    "arm": np.array([1.0, 2.0]),
    "grip": np.array([3.0]),
    "top": np.arange(72, dtype=np.uint8).reshape(4, 6, 3),
    "wrist": np.full((2, 2, 3), 9, np.uint8),
}


def with_cameras(n_obs_steps=1):
    size = sum(field.size for field in FIELDS)
    return replace(BODY, observation_dim=n_obs_steps * size, n_obs_steps=n_obs_steps, fields=FIELDS)


@pytest.mark.parametrize("name", ["observation", "observation/state", "state"])
@pytest.mark.parametrize("given", [[1, 2, 3], np.array([1, 2, 3], ">f4"), np.array([[1.0, 2.0, 3.0]])])
def test_a_vector_has_three_names(name, given):
    np.testing.assert_array_equal(steps_of(BODY, {name: given, "prompt": "go"}), [[1.0, 2.0, 3.0]])


def test_fields_come_by_their_names_with_openpis_prefix_or_nested():
    spec, expected = with_cameras(), pack(FIELDS, SEEN)
    for request in (SEEN, {f"observation/{k}": v for k, v in SEEN.items()}, {"observation": SEEN}):
        np.testing.assert_array_equal(steps_of(spec, request), expected[None])


def test_all_numbers_may_come_as_one_state_beside_the_images():
    images = {name: SEEN[name] for name in ("top", "wrist")}
    request = {"observation/state": np.array([1.0, 2.0, 3.0]), **images}
    np.testing.assert_array_equal(steps_of(with_cameras(), request), pack(FIELDS, SEEN)[None])
    twice = {"state": np.array([[0.0, 0, 0], [1, 2, 3]])} | {k: np.stack([v, v]) for k, v in images.items()}
    np.testing.assert_array_equal(steps_of(with_cameras(2), twice)[1], pack(FIELDS, SEEN))


def test_the_last_observations_come_along_a_first_axis_or_flat():
    spec = replace(BODY, observation_dim=6, n_obs_steps=2)
    both = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(steps_of(spec, {"state": both}), both)
    np.testing.assert_array_equal(steps_of(spec, {"state": both.ravel()}), both)
    np.testing.assert_array_equal(steps_of(spec, {"state": both[0]}), both[:1])


@pytest.mark.parametrize("name", sorted(CONTROL_SPECS))
def test_what_a_client_sends_comes_back_as_the_vector(name):
    spec = CONTROL_SPECS[name]()
    vector = np.zeros(spec.observation_dim) if spec.example is None else spec.example
    request = example_of(spec)
    np.testing.assert_array_equal(steps_of(spec, request).reshape(-1), vector)
    assert len(packed(request)) < largest(spec)
    np.testing.assert_array_equal(steps_of(spec, request_of(spec, vector)).reshape(-1), vector)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"arm": None}, MessageError, "lacks 'arm'"),
        ({"rm": SEEN["arm"]}, MessageError, "no 'rm', did you mean 'arm'"),
        ({"observation/arm": SEEN["arm"]}, MessageError, "'arm' is there twice"),
        ({"arm": np.zeros(3)}, ObservationError, r"'arm' has shape (3,), expected (2,)"),
        ({"arm": [[1.0], [2.0, 3.0]]}, MessageError, "no array of numbers"),
        ({"arm": ["a", "b"]}, ObservationError, "expected of float or integer numbers"),
        ({"arm": [1.0, None]}, ObservationError, "array of object"),
        ({"arm": [1.0, np.nan]}, ObservationError, "is nan"),
        ({"arm": [1.0, 1e300]}, ObservationError, "beyond single precision"),
        ({"arm": [True, False]}, ObservationError, "array of bool"),
        ({"top": SEEN["top"] / 255}, ObservationError, "not scaled"),
        ({"top": np.moveaxis(SEEN["top"], -1, 0)}, ObservationError, "colours come last"),
        ({"top": np.zeros((9, 9, 3), np.uint8)}, ObservationError, "resize or crop"),
        ({"top": np.stack([SEEN["top"]] * 2)}, ObservationError, "expected (4, 6, 3)"),
    ],
)
def test_what_a_policy_does_not_observe_is_refused_in_a_line(change, error, said):
    request = {name: value for name, value in (SEEN | change).items() if value is not None}
    with pytest.raises(error) as refused:
        steps_of(with_cameras(), request)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_fields_of_different_times_are_refused():
    request = {name: np.stack([value, value]) for name, value in SEEN.items()} | {"arm": SEEN["arm"]}
    with pytest.raises(ObservationError, match="different numbers of observations"):
        steps_of(with_cameras(2), request)
