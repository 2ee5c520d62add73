"""What is in the pairs: starts, noise, quality, and the weights that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from onestride.files import CheckpointError
from onestride.plans.given import mask_of
from onestride.runs.pairs import (
    COLUMNS,
    PairsConfig,
    load_pairs,
    make_pairs,
    sample_weights,
)
from pairs_of_a_point import COUNT, IDENTITY, columns, dies_after

# ---- what is in them ----


def test_fixed_entries_of_prior_and_target_are_the_start(make, tmp_path, point, normalizer, observations):
    found = columns(make(tmp_path))
    starts = normalizer.start(observations[:, :2])
    for name in ("prior", "target"):
        here = found[name][:, 0, :2]
        assert torch.equal(found[name][:, mask_of(point.plans)], here)
        match = (here[:, None] == starts).all(-1)  # (M, 50): bit for bit one of the starts
        assert (match.sum(1) == 1).all()
    assert torch.equal(found["prior"][:, 0, :2], found["target"][:, 0, :2])
    # and the context is that of the same observation
    row = match.float().argmax(1)
    torch.testing.assert_close(found["context"], (observations[row, 2:] - 1) / 4)


def test_starts_are_drawn_evenly(make, tmp_path, normalizer, observations):
    here = columns(make(tmp_path))["prior"][:, 0, :2]
    count = (here[:, None] == normalizer.start(observations[:, :2])).all(-1).sum(0).double()
    expected = COUNT / len(observations)
    chi2 = ((count - expected) ** 2 / expected).sum().item()
    assert chi2 < 49 + 5 * (2 * 49) ** 0.5


def test_quality_is_the_selectors_score_of_the_plan_in_task_units(make, tmp_path, normalizer):
    found = columns(make(tmp_path))
    end = found["target"][:, -1, :2] * normalizer.std[:2] + normalizer.mean[:2]
    goal = found["context"] * 4 + 1
    torch.testing.assert_close(found["quality"], -(end - goal).square().sum(-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(load_pairs(tmp_path)["weight"], sample_weights(found["quality"]))


def test_temperatures_come_in_the_papers_proportions_and_scale_the_noise(make, tmp_path, point):
    found = columns(make(tmp_path))
    temperature = found["temperature"]
    for value, share in ((0.3, 0.25), (0.5, 0.5), (0.7, 0.25)):
        rows = temperature == torch.tensor(value)
        assert abs(rows.float().mean().item() - share) < 5 * (share * (1 - share) / COUNT) ** 0.5
        noise = found["prior"][rows][:, ~mask_of(point.plans)].flatten()
        assert abs(noise.mean().item()) < 5 * value / len(noise) ** 0.5
        assert noise.std().item() == pytest.approx(value, rel=5 / (2 * len(noise)) ** 0.5)
    assert set(temperature.tolist()) == set(torch.tensor([0.3, 0.5, 0.7]).tolist())


def r_squared(x, y):
    """Of the linear regression of all columns of y on all columns of x."""
    x = np.column_stack((x, np.ones(len(x))))
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - residual.var(0) / y.var(0)


def test_the_target_is_a_function_of_the_stored_noise_with_ddim_and_not_with_ddpm(make, tmp_path, point):
    """Finding 6 and T-DNK-2: of what "ddpm" makes, a student can learn the mean alone."""
    r2, spread = {}, {}
    for solver in ("ddim", "ddpm"):
        found = columns(make(tmp_path / solver, solver=solver))
        prior, target = (found[name][:, ~mask_of(point.plans)].double().numpy() for name in ("prior", "target"))
        r2[solver] = r_squared(prior, target)
        spread[solver] = [target[found["temperature"].numpy() == np.float32(t)].std() for t in (0.3, 0.5, 0.7)]
    assert r2["ddim"].min() > 0.99
    assert r2["ddpm"].max() < 0.05
    np.testing.assert_allclose(np.array(spread["ddim"]) / spread["ddim"][1], (0.6, 1.0, 1.4), rtol=0.03)
    np.testing.assert_allclose(np.array(spread["ddpm"]) / spread["ddpm"][1], 1.0, rtol=0.03)


def test_the_noise_of_ddpm_is_stored_nowhere_and_yet_the_same_again(make, tmp_path):
    a, b = columns(make(tmp_path / "a", solver="ddpm")), columns(make(tmp_path / "b", solver="ddpm", shards=1))
    assert torch.equal(a["target"], b["target"])
    ddim = columns(make(tmp_path / "c"))
    assert torch.equal(a["prior"], ddim["prior"])
    assert not torch.equal(a["target"], ddim["target"])


def test_an_arm_teacher_makes_pairs(policy, observation, tmp_path):
    observations = torch.from_numpy(observation).float()[None].repeat(3, 1)
    make_pairs(policy, observations, PairsConfig(count=70, shards=2), tmp_path, IDENTITY)
    pairs = load_pairs(tmp_path)
    assert pairs["prior"].shape == pairs["target"].shape == (70, 32, 9)
    assert pairs["context"].shape == (70, policy.task.context_dim)
    assert pairs["weight"].shape == (70,)


# ---- starts beyond the data ----


def test_without_jitter_every_start_is_one_of_the_data_and_the_pairs_are_as_ever(make, tmp_path):
    a, b = columns(make(tmp_path / "a", count=1500)), columns(make(tmp_path / "b", count=1500, jitter=0.0))
    assert all(torch.equal(a[key], b[key]) for key in COLUMNS)


def test_jitter_moves_the_starts_by_so_many_deviations_and_nothing_else(make, tmp_path, point, teacher):
    """Every row by its own share of it, 0 to all, so that most stay near."""
    plain, moved = columns(make(tmp_path / "a")), columns(make(tmp_path / "b", jitter=0.5))
    temperature = plain["temperature"]
    assert torch.equal(moved["temperature"], temperature)
    assert torch.equal(moved["context"], plain["context"])
    shift = (moved["prior"] - plain["prior"])[:, mask_of(point.plans)]  # (M, 2), normalised
    assert (shift != 0).all()
    assert shift.mean().abs() < 5 * 0.5 / COUNT**0.5
    assert shift.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.05)  # E[u^2] = 1/3 of a uniform share
    assert torch.equal(moved["target"][:, mask_of(point.plans)], moved["prior"][:, mask_of(point.plans)])


def test_jittered_pairs_are_the_same_however_they_are_made(make, tmp_path, monkeypatch):
    whole = columns(make(tmp_path / "whole", jitter=0.3))
    dies_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", jitter=0.3)
    monkeypatch.undo()
    killed = columns(make(tmp_path / "killed", jitter=0.3))
    one = columns(make(tmp_path / "one", jitter=0.3, shards=1))
    few = columns(make(tmp_path / "few", jitter=0.3, count=1500))
    for key in COLUMNS:
        assert torch.equal(killed[key], whole[key])
        assert torch.equal(one[key], whole[key])
        assert torch.equal(few[key], whole[key][:1500])
    with pytest.raises(CheckpointError, match="delete the folder"):
        make(tmp_path / "one", shards=1)


# ---- weights ----


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_ranks(count, ties):
    quality = torch.randn(count, generator=torch.Generator().manual_seed(count))
    if ties:
        quality = (2 * quality).round()
    expected = 1 + (rankdata(quality.numpy(), method="average") - 1) / max(count - 1, 1)
    np.testing.assert_allclose(sample_weights(quality).numpy(), expected, rtol=1e-6)


def test_weights_lie_between_1_and_2_and_grow_with_quality():
    quality = torch.randn(999, generator=torch.Generator().manual_seed(0)) * 1e6
    weight = sample_weights(quality)
    assert weight.min() == 1.0
    assert weight.max() == 2.0
    assert weight.mean().item() == pytest.approx(1.5)
    assert (weight[quality.argsort()].diff() > 0).all()
    torch.testing.assert_close(sample_weights(quality, beta=3.0), 1 + 3 * (weight - 1))


def test_equal_quality_weighs_equally():
    assert torch.equal(sample_weights(torch.full((7,), -2.0)), torch.full((7,), 1.5))
