"""Candidates without a certificate are last, and the step aside regains what is required."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.clearance import FILTERS
from onestride.clearance.guard import STEP, step_aside
from onestride.clearance.ranking import CertifiedFirst, certified_first
from onestride.clearance.shapes import RoundedBoxes, segment_distances
from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision
from onestride.tasks import CONTROL_SPECS
from onestride.tasks.obstacles import SPHERE

CONTROL = CONTROL_SPECS["kinova"]()
HAND, GOAL = np.array([0.4, 0.0, 0.2]), np.array([0.4, 0.2, 0.2])
#: A ball close to the tool on the side of the goal: heading there has no certificate, heading away has one.
BALL = np.array([SPHERE, 0.4, 0.095, 0.2, 0.06, 0.06, 0.06, 0.0])
OBSERVATION = np.concatenate((HAND, np.zeros(3), GOAL, BALL, np.zeros(24)))


def decision(displacements, scores):
    """Candidates whose first commands are the hand's position and a displacement along y [m]."""
    plans = np.zeros((len(displacements), 32, 9), np.float32)
    ones = np.zeros((1, 9))
    for plan, dy in zip(plans, displacements, strict=True):
        target = HAND + np.array((0.0, dy, 0.0))
        here = CONTROL.commands(ones, OBSERVATION)[0]  # zeros are the goal
        columns = np.stack([CONTROL.commands(np.eye(9)[None, i], OBSERVATION)[0] - here for i in range(3)], 1)
        plan[0, :3] = np.linalg.solve(columns, target - here)
    return Decision(HAND, plans[0], plans, np.array(scores), {"total": 0.0})


@pytest.fixture
def clearance():
    made = FILTERS["kinova"]()
    made.observe(OBSERVATION, 0.0)
    return made


def test_the_best_candidate_with_a_certificate_wins(clearance):
    given = decision([0.009, -0.005, 0.009, -0.002], [4.0, 1.0, 3.0, 2.0])
    made = certified_first(given, OBSERVATION, clearance, CONTROL)
    np.testing.assert_allclose(made.action, HAND - (0, 0.002, 0), atol=1e-6)
    assert made.plan is given.plans[3] or np.array_equal(made.plan, given.plans[3])
    assert np.argsort(-made.scores).tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize("displacements", [[-0.002, 0.009], [0.009, 0.009]])
def test_a_winner_that_is_certified_stays_and_so_does_one_among_none(clearance, displacements):
    given = decision(displacements, [2.0, 1.0])
    assert certified_first(given, OBSERVATION, clearance, CONTROL) is given


def test_a_candidate_that_is_not_finite_never_wins(clearance):
    given = decision([0.009, -0.005, -0.002], [4.0, np.nan, 2.0])
    np.testing.assert_allclose(
        certified_first(given, OBSERVATION, clearance, CONTROL).action, HAND - (0, 0.002, 0), atol=1e-6
    )


def test_a_policy_is_asked_as_before(clearance):
    class Policy:
        nfe = 1

        def decide(self, observation, committed=None):
            return decision([0.009, -0.002], [2.0, 1.0])

    ranked = CertifiedFirst(Policy(), clearance, CONTROL)
    assert ranked.nfe == 1
    assert ranked.decide(OBSERVATION).action[1] < 0
    assert ranked.decide(OBSERVATION, committed=HAND[None]).action[1] == 0.0
    no_rows = plain_control(name="x", observation_dim=1, horizon=2, control_dt=0.1, low=[-1], high=[1])
    object.__setattr__(no_rows, "commands", None)
    with pytest.raises(ValueError, match="are no commands"):
        CertifiedFirst(Policy(), clearance, no_rows)


def test_a_step_aside_regains_what_is_required():
    ball = RoundedBoxes.of(np.array([[SPHERE, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.0]]))
    places = np.array([0.15, 0.0, 0.0]) + np.concatenate((np.zeros((1, 3)), STEP * np.eye(3)))
    ends = np.repeat(places[:, None, None], 2, 2)
    most = np.full(3, 0.05)
    step = step_aside(ends, np.array([0.07]), -most, most, ball)  # 5 cm off, 7 are required
    np.testing.assert_allclose(step, [0.02, 0.0, 0.0], atol=1e-3)
    moved = segment_distances(np.repeat((places[0] + step)[None, None], 2, 1), ball)
    assert moved[0, 0] == pytest.approx(0.07, abs=1e-4)
    short = step_aside(ends, np.array([0.3]), -most, most, ball)  # more than a step gains
    assert short[0] == pytest.approx(0.04, abs=1e-3)
    assert step_aside(ends + 5.0, np.array([0.07]), -most, most, ball) is None
