"""A knob that turns itself: what is asked for is the mean score of the transitions of the last two seconds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onestride.methods.dynamics import ContextsConfig, DynamicsModel
from onestride.policy.follow_dynamics import SECONDS, FollowDynamics
from onestride.robot.decision import Decision

CONTROL_DT = 0.1
WINDOW = round(SECONDS / CONTROL_DT)


class Told(DynamicsModel):
    """Scores a transition by the first entry of what it leads to."""

    def __init__(self):
        super().__init__(ContextsConfig(), 2, 1)

    def log_odds(self, inputs, fold=None):
        return inputs[:, 0] + inputs[:, 3]

    def scores(self, log_odds):
        return log_odds.clamp(-1, 1)


class Decider:
    """Keeps what it is asked for."""

    control, nfe = SimpleNamespace(control_dt=CONTROL_DT), 1

    def __init__(self):
        self.asked, self.seeds = [], []

    def ask(self, **conditions):
        self.asked.append(conditions)

    def reset(self, seed):
        self.seeds.append(seed)

    def decide(self, observation):
        return Decision(np.zeros(1), np.zeros((1, 3)), np.zeros((1, 1, 3)), np.zeros(1), {})


def played(follower, firsts):
    for first in firsts:
        follower.decide(np.array([first, 0.0]))


def test_it_asks_for_the_mean_of_the_last_two_seconds():
    decider = Decider()
    follower = FollowDynamics(decider, Told(), of_source=0.4)
    played(follower, [0.0, *[-1.0] * WINDOW, *[1.0] * WINDOW])
    dynamics = [asked["dynamics"] for asked in decider.asked]
    assert dynamics[:WINDOW] == [-1.0] * WINDOW  # not enough was seen: as at first
    np.testing.assert_allclose(dynamics[WINDOW:], np.linspace(-1, 1, WINDOW + 1), atol=1e-6)
    for asked in decider.asked:
        assert asked["return"] == 1.0
        assert asked["inverse"] == pytest.approx((1 - asked["dynamics"]) / 2 * 0.4)


def test_an_episode_begins_anew():
    decider = Decider()
    follower = FollowDynamics(decider, Told(), of_source=0.4, at_first=0.5)
    played(follower, [0.0, *[1.0] * WINDOW])
    assert follower.dynamics == pytest.approx(1.0)
    follower.reset(7)
    assert decider.seeds[-1] == 7
    played(follower, [0.0, -1.0])
    assert decider.asked[-1]["dynamics"] == 0.5


def test_a_score_that_is_no_number_counts_for_nothing():
    decider = Decider()
    follower = FollowDynamics(decider, Told(), of_source=0.0)
    played(follower, [0.0, *[1.0] * WINDOW])
    follower.observe(np.array([np.nan, 0.0]), np.zeros(1), np.array([np.nan, 0.0]))
    assert follower.dynamics == pytest.approx(1.0)
    assert torch.isfinite(torch.tensor(follower.dynamics))
