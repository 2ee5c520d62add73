"""Which body a transition is of: log odds in closed form, what unbalanced data add, scores and window means."""

from __future__ import annotations

import math

import pytest
import torch

from onestride.methods.dynamics import (
    SOURCE,
    ContextsConfig,
    DynamicsModel,
    dynamics_score,
    unit_range,
    window_means,
)
from onestride.training.config import TrainConfig
from onestride.training.loop import train

PUSH, NOISE = {"source": 1.0, "target": 0.6}, 0.5  # of s' = 0.9 s + push a + noise
TRAINING = TrainConfig(
    steps=600, batch_size=512, learning_rate=1e-2, ema_decay=0.98, precision="32-true", checkpoint_every=60.0
)


def steps(body, count, seed, mean_action=0.0):
    rng = torch.Generator().manual_seed(seed)
    s, e = torch.randn(count, 1, generator=rng), torch.randn(count, 1, generator=rng)
    a = mean_action + torch.randn(count, 1, generator=rng)
    return s, a, 0.9 * s + PUSH[body] * a + NOISE * e


def log_ratio(s, a, following):
    """The true log p(s' | s, a; target) - log p(s' | s, a; source), two normal laws of one width."""
    off = {body: following - 0.9 * s - push * a for body, push in PUSH.items()}
    return ((off["source"].square() - off["target"].square()) / (2 * NOISE**2))[:, 0]


@torch.enable_grad()
def trained(tmp_path, sizes=(20_000, 20_000), mean_actions=(0.0, 0.0), **settings):
    """A model of (target, source) data of these sizes, and all of the data."""
    torch.manual_seed(0)
    model = DynamicsModel(ContextsConfig(folds=2, hidden=64, **settings), 1, 1)
    data = [
        model.inputs(*steps(body, n, seed, mean))
        for body, n, seed, mean in zip(("target", "source"), sizes, (1, 2), mean_actions, strict=True)
    ]
    rows = torch.cat(data)
    model.normalizer.fit(rows)
    model.share.fill_(sizes[0] / sum(sizes))
    fold = torch.cat((torch.arange(sizes[0]) % 2, torch.full((sizes[1],), SOURCE)))
    half = {"inputs": rows, "fold": fold}
    if sizes[0] != sizes[1]:  # batches are half target, half source, whatever there is of each
        again = torch.cat((torch.arange(sizes[0]).repeat(sizes[1] // sizes[0]), sizes[0] + torch.arange(sizes[1])))
        half = {name: column[again] for name, column in half.items()}
    return train(model, half, TRAINING, tmp_path, title="contexts", identity={})[0].eval(), rows, fold


@torch.no_grad()
def test_log_odds_are_those_of_the_dynamics_where_behaviours_are_alike(tmp_path):
    """T-OD-1: correlation above 0.98 with the log ratio in closed form, on transitions never seen."""
    model, _, _ = trained(tmp_path)
    new = steps("target", 2_000, 7)
    found = model.log_odds(model.inputs(*new))
    assert torch.corrcoef(torch.stack((found, log_ratio(*new))))[0, 1] > 0.98


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("score", "shifted"), [pytest.param("classifier", True, marks=pytest.mark.slow), ("dara", False)]
)
def test_what_behaviours_differ_in_shifts_the_plain_score_and_not_daras(tmp_path, score, shifted):
    """T-OD-1: the target acts around +1, the source around -1; log rho_T / rho_S of an action a is 2 a."""
    model, _, _ = trained(tmp_path, mean_actions=(1.0, -1.0), score=score)
    s, _, _ = steps("target", 500, 8)
    slopes = []
    for a in (-1.0, 1.0):  # where both bodies' means are known, with s' just between them: the dynamics say nothing
        action = torch.full_like(s, a)
        between = 0.9 * s + 0.5 * (PUSH["source"] + PUSH["target"]) * action
        slopes.append(model.log_odds(model.inputs(s, action, between)).mean())
    behaviours = float(slopes[1] - slopes[0])  # 4 by the densities of actions
    assert behaviours > 2.5 if shifted else abs(behaviours) < 1.0


@pytest.mark.slow
@torch.no_grad()
def test_unbalanced_data_add_the_log_of_their_ratio(tmp_path):
    """T-OD-2: 2,500 of 20,000: -2.08 nats on every score; balanced, nothing."""
    odds = {}
    for balanced in (True, False):
        model, _, _ = trained(tmp_path / str(balanced), (2_500, 20_000), balanced=balanced)
        s, a, _ = steps("target", 2_000, 9)
        between = 0.9 * s + 0.5 * (PUSH["source"] + PUSH["target"]) * a
        odds[balanced] = float(model.log_odds(model.inputs(s, a, between)).mean())
    assert odds[True] == pytest.approx(0.0, abs=0.4)
    assert odds[False] - odds[True] == pytest.approx(math.log(2_500 / 20_000), abs=0.5)


def test_target_transitions_are_scored_by_who_has_not_seen_them():
    torch.manual_seed(0)
    model = DynamicsModel(ContextsConfig(folds=2), 1, 1)
    rows = model.inputs(*steps("target", 6, 0))
    each = model.transition(model.normalizer(rows))
    fold = torch.tensor([0, 1, SOURCE, 0, 1, SOURCE])
    expected = torch.stack([each.mean(0)[i] if f == SOURCE else each[f, i] for i, f in enumerate(fold.tolist())])
    torch.testing.assert_close(model.log_odds(rows, fold), expected)
    made = model.training_step({"inputs": rows, "fold": torch.zeros(6, dtype=torch.long)}, torch.Generator())
    made["transition"].backward()
    first = model.transition.weights[0].grad
    assert not first[0].any()  # the classifier of fold 0 learns nothing of fold 0
    assert first[1].any()


def test_scores_reach_one_exactly_and_turn_with_the_bodies():
    """T-OD-5."""
    p = torch.linspace(0, 1, 101)
    score = dynamics_score(p, 1e-3)
    assert score[0].item() == pytest.approx(-1, abs=1e-6)
    assert score[-1].item() == pytest.approx(1, abs=1e-6)
    assert score.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(score, -dynamics_score(1 - p, 1e-3), atol=1e-5, rtol=0)


def test_what_all_transitions_say_spans_the_scale():
    model = DynamicsModel(ContextsConfig(), 1, 1)
    odds = torch.linspace(-2, 2, 5_001)
    model.scale(odds)
    made = model.scores(odds)
    assert (made.min().item(), made.max().item()) == (pytest.approx(-1, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert (made.diff() >= 0).all()


def test_the_inverse_error_is_never_below_zero_and_zero_at_the_action_itself():
    model = DynamicsModel(ContextsConfig(), 2, 1)
    s, following = torch.randn(50, 2), torch.randn(50, 2)
    rows = model.inputs(s, torch.randn(50, 1), following)
    model.normalizer.fit(rows)
    assert (model.inverse_errors(rows) >= 0).all()
    own = model.inputs(s, model.action_between(s, following), following)
    torch.testing.assert_close(model.inverse_errors(own), torch.zeros(50), atol=1e-5, rtol=0)


def test_windows_average_their_own_transitions_and_no_padding():
    """Rows 0 ... 3 are one episode of 3 transitions, rows 4 ... 6 another of 2."""
    values = torch.tensor([1.0, 2.0, 4.0, 999.0, 10.0, 20.0, 999.0])
    start, last = torch.tensor([0, 1, 2, 4, 5]), torch.tensor([3, 3, 3, 6, 6])
    torch.testing.assert_close(window_means(values, start, last, 3), torch.tensor([1.5, 3.0, 4.0, 15.0, 20.0]))
    torch.testing.assert_close(window_means(values, start, last, 1), torch.tensor([1.0, 2.0, 4.0, 10.0, 20.0]))


def test_several_sets_share_one_unit_range():
    low, high = unit_range([torch.tensor([2.0, 3.0]), torch.tensor([4.0, 6.0])])
    torch.testing.assert_close(low, torch.tensor([0.0, 0.25]))
    torch.testing.assert_close(high, torch.tensor([0.5, 1.0]))
    assert torch.equal(unit_range([torch.ones(3)])[0], torch.zeros(3))


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"score": "label"}, {"epsilon": 0.0}, {"noise": -1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"contexts|score"):
        ContextsConfig(**wrong)
