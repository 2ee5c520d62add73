"""Drifting fields: parity with plain loops in float64, antisymmetry, equilibrium, a closed form (T-KDP-1, 2 and 5)."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from onestride.diffusion.drifting import FAR, grouped_drift, keyed_drift

TEMPERATURES = (0.02, 0.05, 0.2)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- parity with a loop over numbers ----


def looped_group(samples, data, weights, temperatures, free, normalise=True):
    """The field of one vector (N, G, F) in float64, number by number."""
    n, g, f = samples.shape
    p = data.shape[1]
    x, y = (samples.double() * free).tolist(), (data.double() * free).tolist()
    targets = [x[i] + y[i] for i in range(n)]
    w = [[1.0] * g + weights[i].double().tolist() for i in range(n)]
    dist = [[[math.dist(x[i][a], t) for t in targets[i]] for a in range(g)] for i in range(n)]
    weighted = sum(dist[i][a][j] * w[i][j] for i in range(n) for a in range(g) for j in range(g + p))
    mean = weighted / (g * sum(sum(row) for row in w))
    moving = int(free.sum())
    unit = mean / math.sqrt(moving)
    total = [[[0.0] * f for _ in range(g)] for _ in range(n)]
    for temperature in temperatures:
        v = [[[0.0] * f for _ in range(g)] for _ in range(n)]
        for i in range(n):
            logit = [[-(dist[i][a][j] / mean + FAR * (a == j)) / temperature for j in range(g + p)] for a in range(g)]
            kernel = [[math.exp(each) for each in row] for row in logit]
            rows = [sum(row) for row in kernel]
            columns = [sum(kernel[a][j] for a in range(g)) for j in range(g + p)]
            for a in range(g):

                def affinity(j, i=i, a=a, kernel=kernel, rows=rows, columns=columns):
                    k = kernel[a][j]
                    return math.sqrt(max(k / rows[a] * (k / columns[j] if columns[j] else 0.0), 1e-6)) * w[i][j]

                pull, push = [affinity(j) for j in range(g, g + p)], [affinity(j) for j in range(g)]
                for k in range(f):
                    plus = sum(c * y[i][j][k] for j, c in enumerate(pull)) * sum(push)
                    minus = sum(c * x[i][j][k] for j, c in enumerate(push)) * sum(pull)
                    v[i][a][k] = (plus - minus) / unit
        size = math.sqrt(sum(e * e for row in v for each in row for e in each) / (n * g * moving))
        for i in range(n):
            for a in range(g):
                for k in range(f):
                    total[i][a][k] += v[i][a][k] / size if normalise else v[i][a][k]
    return torch.tensor(total)


def test_the_grouped_field_is_what_a_loop_in_double_precision_gives():
    samples, data = normal(3, 4, 5), normal(3, 6, 5, seed=1)
    weights, free = torch.rand(3, 6, generator=torch.Generator().manual_seed(2)), torch.tensor([1.0, 1, 0, 1, 1])
    drift, unit = grouped_drift(samples[None], data[None], weights, TEMPERATURES, free[None])
    torch.testing.assert_close(
        drift.field[0], looped_group(samples, data, weights, TEMPERATURES, free).float(), rtol=1e-4, atol=1e-4
    )
    assert unit.shape == (1,)
    assert drift.size.shape == (3,)


def test_vectors_are_taken_independently_of_one_another():
    samples, data, weights = normal(2, 3, 4, 5), normal(2, 3, 6, 5, seed=1), torch.ones(3, 6)
    free = torch.ones(2, 5)
    both, _ = grouped_drift(samples, data, weights, TEMPERATURES, free)
    for each in range(2):
        alone, _ = grouped_drift(samples[each : each + 1], data[each : each + 1], weights, TEMPERATURES, free[:1])
        torch.testing.assert_close(both.field[each], alone.field[0])


def looped_keyed(samples, data, key, temperatures, free, self_mask=True, normalise=True):
    b, f = samples.shape
    x, y, c = samples.double().tolist(), data.double().tolist(), key.double().tolist()
    dist = [[math.dist(c[i], c[j]) for j in range(b)] for i in range(b)]
    mean = sum(map(sum, dist)) / b**2
    field = torch.zeros(b, f, dtype=torch.float64)
    for i in range(b):
        for temperature in temperatures:
            pull = [math.exp(-dist[i][j] / (temperature * mean)) for j in range(b)]
            push = [0.0 if self_mask and i == j else e for j, e in enumerate(pull)]
            for k in range(f):
                plus = sum(w * y[j][k] for j, w in enumerate(pull)) / sum(pull)
                minus = sum(w * x[j][k] for j, w in enumerate(push)) / sum(push)
                field[i, k] += float(free[k]) * (plus - minus) / len(temperatures)
        if normalise:
            field[i] /= (field[i].square().sum() / free.sum()).sqrt()
    return field


@pytest.mark.parametrize("self_mask", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_papers_field_is_what_a_loop_in_double_precision_gives(self_mask, normalise):
    samples, data, key = normal(7, 5), normal(7, 5, seed=1), normal(7, 2, seed=2)
    free = torch.tensor([0.0, 1, 1, 1, 1])
    drift = keyed_drift(samples, data, key, key, TEMPERATURES, free, self_mask=self_mask, normalise=normalise)
    expected = looped_keyed(samples, data, key, TEMPERATURES, free, self_mask, normalise)
    torch.testing.assert_close(drift.field, expected.float(), rtol=1e-4, atol=1e-5)


# ---- T-KDP-1 ----


def test_data_and_negatives_change_places_and_the_field_its_sign():
    x, p, q = normal(1, 2, 8, 3), normal(1, 2, 6, 3, seed=1), normal(1, 2, 6, 3, seed=2)
    ones, free = torch.ones(2, 6), torch.ones(1, 3)
    there, _ = grouped_drift(x, p, ones, TEMPERATURES, free, negatives=q, normalise=False)
    back, _ = grouped_drift(x, q, ones, TEMPERATURES, free, negatives=p, normalise=False)
    torch.testing.assert_close(there.field, -back.field, rtol=1e-4, atol=1e-6)
    assert there.field.abs().max() > 1e-3


def test_nothing_moves_on_average_where_samples_are_of_the_datas_law():
    groups = 4_000
    x, p, q = (normal(1, groups, 8, 2, seed=seed) for seed in range(3))
    drift, _ = grouped_drift(x, p, torch.ones(groups, 8), (0.2,), torch.ones(1, 2), negatives=q)
    mean = drift.field.mean((0, 1, 2))
    error = drift.field.mean(2)[0].std(0) / math.sqrt(groups)
    assert (mean.abs() < 4 * error).all(), (mean, error)
    shifted, _ = grouped_drift(x, p + 0.3, torch.ones(groups, 8), (0.2,), torch.ones(1, 2), negatives=q)
    assert (shifted.field.mean((0, 1, 2)) > 10 * error).all()  # what would be seen were it otherwise


def laplace_mean(x, m, s, tau):
    """E[k y] / E[k] of y ~ N(m, s^2), k = exp(-|y - x| / tau), by truncated normal integrals."""
    above, below = m - s * s / tau, m + s * s / tau
    mass_above = math.exp((x - m) / tau + s * s / (2 * tau**2)) * norm.sf(x, above, s)
    mass_below = math.exp((m - x) / tau + s * s / (2 * tau**2)) * norm.cdf(x, below, s)
    mean_above = above + s * norm.pdf((x - above) / s) / norm.sf(x, above, s)
    mean_below = below - s * norm.pdf((x - below) / s) / norm.cdf(x, below, s)
    return (mass_above * mean_above + mass_below * mean_below) / (mass_above + mass_below)


def test_between_two_normal_laws_the_field_has_its_closed_form():
    """Eq. 9 with distances of plans: mu+ - mu- of an exponential kernel."""
    n, tau = 2_001, 0.4
    levels = (torch.arange(n).double() + 0.5) / n
    data = torch.from_numpy(norm.ppf(levels.numpy(), 0.5, 0.8)).float()[:, None]
    samples = torch.from_numpy(norm.ppf(levels.numpy(), -0.2, 1.3)).float()[:, None]
    relative = tau / float(torch.cdist(data, data).mean())
    drift = keyed_drift(
        samples, data, samples, data, (relative,), torch.ones(1), self_mask=False, normalise=False, negatives=None
    )  # fmt: skip
    for i in range(100, n - 100, 300):
        x = float(samples[i])
        expected = laplace_mean(x, 0.5, 0.8, tau) - laplace_mean(x, -0.2, 1.3, tau)
        assert float(drift.field[i]) == pytest.approx(expected, abs=2e-2), x  # of sums over 2001 quantiles


# ---- T-KDP-2: the paper's form ----


def test_the_papers_drift_of_a_sample_does_not_know_the_sample():
    """dV_i/dx_i = 0: it is a function of the batch's keys, the data and the other samples."""
    samples, data, key = normal(16, 4), normal(16, 4, seed=1), normal(16, 3, seed=2)

    def field(x):
        return keyed_drift(x, data, key, key, TEMPERATURES, torch.ones(4), normalise=False).field

    other = samples.clone()
    other[3] += 10.0
    assert torch.equal(field(samples)[3], field(other)[3])
    assert not torch.equal(field(samples)[4], field(other)[4])


def test_the_grouped_drift_of_a_sample_does():
    samples, data = normal(1, 2, 4, 3), normal(1, 2, 5, 3, seed=1)
    other = samples.clone()
    other[0, 0, 0] += 0.5

    def field(x):
        return grouped_drift(x, data, torch.ones(2, 5), (0.2,), torch.ones(1, 3), normalise=False)[0].field[0, 0, 0]

    assert not torch.allclose(field(samples), field(other), atol=1e-3)


# ---- T-KDP-5, ablations ----


def test_what_may_not_move_does_not_and_counts_for_nothing():
    samples, data, weights = normal(1, 2, 4, 6), normal(1, 2, 5, 6, seed=1), torch.ones(2, 5)
    free = torch.tensor([[1.0, 0, 1, 0, 1, 1]])
    drift, _ = grouped_drift(samples, data, weights, TEMPERATURES, free)
    changed = samples.clone()
    changed[..., [1, 3]] += 100.0
    again, _ = grouped_drift(changed, data, weights, TEMPERATURES, free)
    assert (drift.field[..., [1, 3]] == 0).all()
    assert torch.equal(drift.field, again.field)
    keyed = keyed_drift(samples[0, :, 0], data[0, :, 0], normal(2, 3), normal(2, 3), TEMPERATURES, free[0])
    assert (keyed.field[:, [1, 3]] == 0).all()


def test_a_normalised_field_has_a_size_of_one_over_what_moves():
    samples, data, free = normal(1, 8, 4, 6), normal(1, 8, 5, 6, seed=1), torch.tensor([[0.0, 1, 1, 1, 1, 1]])
    drift, _ = grouped_drift(samples, data, torch.ones(8, 5), (0.05,), free)
    assert drift.field[..., 1:].square().mean() == pytest.approx(1.0, abs=1e-5)
    keyed = keyed_drift(samples[0, :, 0], data[0, :, 0], normal(8, 3), normal(8, 3), TEMPERATURES, free[0])
    torch.testing.assert_close(keyed.field[:, 1:].square().mean(1), torch.ones(8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fields", ["grouped", "keyed"])
def test_attraction_alone_is_towards_the_mean_and_literally_it_is_the_mean(fields):
    """Without mu- the formula leaves mu+, not mu+ - x: samples then grow without bound."""
    samples, data, key = normal(1, 1, 4, 3), normal(1, 1, 1, 3, seed=1), torch.zeros(1, 2)

    def field(repulsion):
        if fields == "grouped":
            drift, unit = grouped_drift(
                samples, data, torch.ones(1, 1), (0.2,), torch.ones(1, 3), repulsion=repulsion, normalise=False
            )  # fmt: skip
            return drift.field[0, 0] * unit
        args = samples[0, 0, :1], data[0, 0, :1], key, key, (0.2,), torch.ones(3)
        return keyed_drift(*args, repulsion=repulsion, normalise=False).field

    at = samples[0, 0] if fields == "grouped" else samples[0, 0, :1]
    torch.testing.assert_close(field("off"), data[0, 0] - at)
    torch.testing.assert_close(field("literal"), data[0, 0].expand_as(at))
