"""Numbers are bound by name: in any order, with sign, zero and unit, or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onestride.robot.binding import UNITS, Binding, Link
from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import Column

COLUMNS = [Column("lift", "rad"), Column("pan", "rad"), Column("jaw", "1"), Column("goal", "m")]
ROBOT = {"jaw": "%", "pan": "deg", "shoulder.pos": "deg", "battery": "V"}
LINKS = [Link("lift", "shoulder.pos", sign=-1, offset=math.pi / 2)]


def bound(columns=COLUMNS, units=ROBOT, links=LINKS, given=("goal",), ignored=("battery",)) -> Binding:
    return Binding(columns, units, links, given=given, ignored=ignored)


def test_numbers_are_in_the_tasks_order_sign_zero_and_unit_whatever_the_robots_is():
    seen = {"battery": 12.0, "shoulder.pos": 30, "jaw": 50.0, "pan": np.float32(90)}
    vector = bound().vector(seen, {"goal": 0.25})
    np.testing.assert_allclose(vector, [math.pi / 2 - math.pi / 6, math.pi / 2, 0.5, 0.25], rtol=1e-15)
    np.testing.assert_array_equal(bound().vector(dict(reversed(seen.items())), {"goal": 0.25}), vector)


def test_there_and_back():
    rng, binding = np.random.default_rng(0), bound()
    for _ in range(20):
        seen = {name: float(value) for name, value in zip(ROBOT, rng.normal(size=4), strict=True)}
        back = binding.values(binding.vector(seen, {"goal": 1.0}))
        assert back == pytest.approx({name: seen[name] for name in ("shoulder.pos", "pan", "jaw")}, abs=1e-12)


@pytest.mark.parametrize(("unit", "other"), [(a, b) for a in UNITS for b in UNITS])
def test_a_unit_is_converted_to_one_of_the_same_quantity_and_to_no_other(unit, other):
    if UNITS[unit][0] != UNITS[other][0]:
        with pytest.raises(ValueError, match=rf"the robot has 'x' in \[{other}\], the task 'x' in \[{unit}\]"):
            Binding([Column("x", unit)], {"x": other})
        return
    (value,) = Binding([Column("x", unit)], {"x": other}).vector({"x": 3.0})
    assert value * UNITS[unit][1] == pytest.approx(3.0 * UNITS[other][1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": [*COLUMNS, Column("yaw", "rad")]}, r"nothing says which of the robot's numbers \['yaw'\] are"),
        ({"units": ROBOT | {"roll": "deg"}}, r"the task uses none of the robot's \['roll'\]"),
        ({"links": [Link("lift", "elbow.pos")]}, r"the robot has no \['elbow.pos'\]; it has \['jaw', 'pan'"),
        ({"links": [*LINKS, Link("left", "pan")]}, r"the task has no \['left'\]"),
        ({"links": [*LINKS, Link("pan", "shoulder.pos")]}, r"a link to, or ignored, is \['shoulder.pos'\] more than"),
        ({"links": [*LINKS, *LINKS]}, r"a link, or given, is \['lift'\] more than once"),
        ({"columns": [*COLUMNS, COLUMNS[0]]}, r"the task has \['lift'\] more than once"),
        ({"given": ("goal", "aim")}, r"the task has no \['aim'\]"),
        ({"ignored": ("battery", "pan")}, r"is \['pan'\] more than once"),
        ({"ignored": ("battery", "fan")}, r"the robot has no \['fan'\]"),
        ({"units": ROBOT | {"pan": "mm"}}, r"the robot has 'pan' in \[mm\], the task 'pan' in \[rad\]"),
        ({"units": ROBOT | {"pan": "degrees"}}, r"'pan' in \[degrees\]"),
        ({"links": [Link("lift", "shoulder.pos", sign=0)]}, "the link of 'lift' has sign 0"),
        ({"links": [Link("lift", "shoulder.pos", offset=math.nan)]}, "offset nan"),
        ({"links": [Link("lift", "shoulder.pos", unit="deg")]}, r"'lift' is in \[rad\] and its link says \[deg\]"),
    ],
)
def test_what_is_missing_doubled_unknown_or_in_another_unit_is_refused_before_anything_moves(change, said):
    with pytest.raises(ValueError, match=said):
        bound(**change)


def test_a_task_without_units_is_told_them():
    columns = [Column("observation[0]", "")]
    with pytest.raises(ValueError, match=r"names no unit for 'observation\[0\]': say it"):
        Binding(columns, {"pan": "deg"}, [Link("observation[0]", "pan")])
    binding = Binding(columns, {"pan": "deg"}, [Link("observation[0]", "pan", unit="rad")])
    assert binding.vector({"pan": 180})[0] == pytest.approx(math.pi)


@pytest.mark.parametrize(
    ("seen", "given", "said"),
    [
        ({"jaw": 1, "pan": 2, "battery": 3}, {"goal": 0}, r"the robot's numbers lack \['shoulder.pos'\] and have \[\]"),
        (dict.fromkeys(ROBOT, 0) | {"roll": 1}, {"goal": 0}, r"and have \['roll'\]"),
        (dict.fromkeys(ROBOT, 0), {}, r"the program's numbers lack \['goal'\]"),
        (dict.fromkeys(ROBOT, 0), {"goal": "far"}, "'goal' is 'far', expected a number"),
    ],
)
def test_a_reading_that_is_not_as_it_was_bound_is_no_observation(seen, given, said):
    with pytest.raises(ObservationError, match=said):
        bound().vector(seen, given)


def test_what_is_not_finite_is_left_to_the_loop_to_refuse():
    vector = bound().vector(dict.fromkeys(ROBOT, 0) | {"pan": math.nan}, {"goal": 0})
    assert np.isnan(vector).tolist() == [False, True, False, False]


def test_only_finite_numbers_go_back():
    for vector in (np.zeros(3), np.array([0.0, 0.0, 0.0, np.nan])):
        with pytest.raises(ValueError, match="expected 4 finite ones"):
            bound().values(vector)
