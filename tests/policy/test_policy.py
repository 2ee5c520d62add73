"""A decision: the best candidate's first action, repeatable, and safe against numbers that are none."""

import numpy as np
import pytest
import torch

from onestride.plans.given import make_prior
from onestride.policy.policy import Policy
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import NoPlanError


def test_the_action_is_the_best_plans_first(policy, observation):
    policy.reset(3)
    decision = policy.decide(observation)
    best = int(decision.scores.argmax())
    frame = policy.task.encode(torch.from_numpy(observation).float()[None]).frame
    np.testing.assert_array_equal(decision.plan, decision.plans[best])
    command = policy.task.command(torch.from_numpy(decision.plans[best])[None], frame)[0]
    np.testing.assert_allclose(decision.action, command.numpy(), atol=1e-6)
    assert decision.plans.shape == (policy.candidates, policy.control.horizon, policy.control.transition_dim)


def test_the_same_seed_gives_the_same_action_and_noise_is_fresh_each_time(policy, observation):
    policy.reset(7)
    first, second = policy.decide(observation).action, policy.decide(observation).action
    policy.reset(7)
    np.testing.assert_array_equal(policy.decide(observation).action, first)
    assert not np.array_equal(first, second)


def test_every_candidate_starts_where_the_robot_is(policy, observation):
    start = policy.task.encode(torch.from_numpy(observation).float()[None]).values
    decision = policy.decide(observation)
    starts = decision.plans[:, 0, : policy.control.state_dim]
    np.testing.assert_allclose(starts, start.expand(policy.candidates, -1), atol=1e-5, rtol=1e-5)


def test_candidates_share_the_temperatures_as_training_did(make_arm_policy):
    policy = make_arm_policy(candidates=64)
    values, counts = policy.temperature.unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0.3, 0.5, 0.7]))
    assert counts.tolist() == [16, 32, 16]


def test_a_candidate_that_is_not_a_number_never_wins(policy, observation, monkeypatch):
    honest = policy.generator.sample

    def poisoned(prior, context, *, generator=None):
        plans = honest(prior, context)
        plans[:-1, 5:] = torch.nan
        return plans

    monkeypatch.setattr(policy.generator, "sample", poisoned)
    decision = policy.decide(observation)
    assert np.isfinite(decision.action).all()
    np.testing.assert_array_equal(decision.plan, decision.plans[-1])


def test_no_finite_candidate_is_no_action(policy, observation, monkeypatch):
    monkeypatch.setattr(policy.generator, "sample", lambda prior, context, **_: prior * torch.nan)
    with pytest.raises(NoPlanError, match="none of 8 candidates is finite"):
        policy.decide(observation)


def test_a_prior_holds_scaled_noise_and_the_start(policy):
    task = policy.task
    noise = torch.ones(2, task.control.horizon, task.control.transition_dim)
    start = torch.randn(1, task.control.state_dim)
    values = policy.normalizer.entries(start, policy.known)
    prior = make_prior(noise, torch.tensor([0.3, 0.7]), values, policy.known)
    torch.testing.assert_close(prior[1][~policy.fixed], torch.full((int((~policy.fixed).sum()),), 0.7))
    torch.testing.assert_close(prior[0, 0, : task.control.state_dim], policy.normalizer.start(start)[0])


def test_timings_add_up(policy, observation):
    t = policy.decide(observation).timings
    assert t["total"] == pytest.approx(t["encode"] + t["generate"] + t["select"])


def test_a_bad_observation_is_refused_before_anything_is_computed(policy, observation, monkeypatch):
    monkeypatch.setattr(policy.generator, "sample", None)  # calling it would fail otherwise
    with pytest.raises(ObservationError, match="shape"):
        policy.decide(observation[:5])
    bad = observation.copy()
    bad[0] = np.inf
    with pytest.raises(ObservationError, match=r"observation\[0\] is inf"):
        policy.decide(bad)


def test_three_lines_load_and_act(policy, observation, tmp_path):
    policy.save(tmp_path / "p", {})
    action = Policy.from_pretrained(tmp_path / "p").decide(observation).action
    assert action.shape == (3,)


def test_no_candidates_is_an_error(make_arm_policy):
    with pytest.raises(ValueError, match="at least one candidate"):
        make_arm_policy(candidates=0)
