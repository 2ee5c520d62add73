"""Drifting fields: in which direction samples have to move so that their distribution becomes the data's.

A generator that is trained to move its samples along the field needs no steps when it is used (Deng et al. 2026,
"Generative Modeling via Drifting"; keyed for planners in the KDP paper, section IV). Both fields attract samples to
data and repel them from one another. They differ in what says who is near:

    grouped_drift   samples of one condition against windows of like conditions, by their distance as plans
    keyed_drift     the KDP paper's, eq. 9-13: by the distance of their keys alone

Fields are taken in float32 and without gradients: they are targets.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: "on": data attract, samples repel. "off": data attract, mu+ - x. "literal": mu+ alone, as the formula says where mu-
#: is left out; samples then grow without bound, since nothing holds them.
Repulsion = Literal["on", "off", "literal"]

FAR = 100.0  # added to a distance in units of the mean: its weight is 0, and nothing overflows in half precision
FLOOR = 1e-6


class Drift(NamedTuple):
    """A field at samples, and how large it was before it was normalised, by temperature (T,)."""

    field: Tensor
    size: Tensor


def grouped_drift(
    samples: Tensor, data: Tensor, weights: Tensor, temperatures: tuple[float, ...], free: Tensor, *,
    self_mask: bool = True, repulsion: Repulsion = "on", normalise: bool = True, negatives: Tensor | None = None,
) -> tuple[Drift, Tensor]:  # fmt: skip
    """Return the drift of samples within groups of one condition, and the unit (L,) in which it is.

    Weights are the square root of the softmax over what acts on a sample times the softmax over whom it acts on: with
    the first alone all samples may end up in one mode. Temperatures are relative to the mean distance.

    Args:
        samples: (L, N, G, F): G samples of each of N conditions, as L independent vectors of F entries each.
        data: (L, N, P, F).
        weights: of the data (N, P), how well they fit the condition.
        temperatures: fractions of the mean distance; their fields are added.
        free: (L, F), which entries may move. Others count in no distance.
        self_mask: whether a sample does not repel itself.
        repulsion: see ``Repulsion``.
        normalise: whether each temperature's field has a root mean square of 1 over all groups.
        negatives: (L, N, G', F), samples that repel in the place of the samples themselves.

    Returns:
        the field (L, N, G, F) in units of the second value, which is 1 / sqrt(F) of the mean distance.
    """
    samples, data = samples.detach().float() * free[:, None, None], data.float() * free[:, None, None]
    others = samples if negatives is None else negatives.detach().float() * free[:, None, None]
    count = others.shape[2]
    distance = _distances(samples, torch.cat((others, data), 2))
    weights = torch.cat((weights.new_ones(len(weights), count), weights), 1).float()  # (N, G + P)
    mean = (distance * weights[:, None]).sum((1, 2, 3)) / (weights.sum() * samples.shape[2])
    mean = mean.clamp(min=1e-3)  # (L,)
    moving = free.sum(1).clamp(min=1)
    unit = mean / moving.sqrt()
    distance = distance / mean[:, None, None, None]  # (L, N, G, G' + P)
    if self_mask and negatives is None:
        distance[..., :count] += FAR * torch.eye(count, device=distance.device)
    scaled = torch.stack([distance / -temperature for temperature in temperatures], 2)  # (L, N, T, G, G' + P)
    affinity = (scaled.softmax(-1) * scaled.softmax(-2)).clamp(min=FLOOR).sqrt() * weights[:, None, None]
    repelling, attracting = affinity[..., :count], affinity[..., count:]
    if repulsion == "on":  # each weighted by the other's sum, so that neither wins by being more
        coefficients = torch.cat((-repelling * attracting.sum(-1, True), attracting * repelling.sum(-1, True)), -1)
        v = _applied(coefficients, torch.cat((others, data), 2))
    else:
        v = _applied(attracting / attracting.sum(-1, True), data)
        v = v if repulsion == "literal" else v - samples[:, :, None]
    square = v.square().sum((1, 3, 4)) / (v.shape[1] * v.shape[3] * moving)[:, None]  # (L, T), over what may move
    size = square.sqrt() / unit[:, None]
    scale = 1 / (size.clamp(min=1e-8) if normalise else torch.ones_like(size)) / unit[:, None]
    field = (v * scale[:, None, :, None, None]).sum(2)
    return Drift(field, size.mean(0)), unit


def _applied(coefficients: Tensor, vectors: Tensor) -> Tensor:
    """Return (L, N, T, G, F) of coefficients (L, N, T, G, P) and vectors (L, N, P, F), by one product."""
    return (coefficients.flatten(2, 3) @ vectors).unflatten(2, coefficients.shape[2:4])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (..., A, B) by differences: products of matrices would lose the small ones, which weigh most."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def keyed_drift(
    samples: Tensor, data: Tensor, key: Tensor, data_key: Tensor, temperatures: tuple[float, ...], free: Tensor, *,
    self_mask: bool = True, repulsion: Repulsion = "on", normalise: bool = True, negatives: Tensor | None = None,
) -> Drift:  # fmt: skip
    """Return the KDP paper's drift of samples (B, F) towards data (B, F): eq. 9-13, Algorithm 1.

    The weights depend on keys alone. A sample's own place is therefore in its drift nowhere: all samples of one
    condition are moved alike, and only their mean is learnt. With ``self_mask`` a sample's own window attracts and it
    does not repel itself, which makes that mean larger than the data's.

    Args:
        samples: of one condition each.
        data: the window that each condition was taken from.
        key: (B, K) of the samples; for eq. 11 by plans instead of conditions the plans themselves.
        data_key: (B, K) of the data.
        temperatures: fractions of the mean distance between data's keys; their fields are averaged.
        free: (F,), which entries may move.
        self_mask: whether a sample does not repel itself.
        repulsion: see ``Repulsion``.
        normalise: whether every sample's drift has a root mean square of 1.
        negatives: (B, F) samples that repel in the place of the samples themselves, of the same conditions.
    """
    samples, data, key, data_key = (each.detach().float() for each in (samples, data, key, data_key))
    attract, repel = (_distances(key, other) for other in (data_key, key))
    mean = _distances(data_key, data_key).mean().clamp(min=1e-6)
    if self_mask and negatives is None:
        repel = repel + FAR * mean * torch.eye(len(key), device=key.device)
    others = samples if negatives is None else negatives.detach().float()
    field, sizes = torch.zeros_like(samples), []
    for temperature in temperatures:
        v = (-attract / (temperature * mean)).softmax(-1) @ data
        if repulsion == "on":
            v = v - (-repel / (temperature * mean)).softmax(-1) @ others
        elif repulsion == "off":
            v = v - samples
        v = v * free
        sizes.append((v.square().sum() / (len(v) * free.sum())).sqrt())
        field += v / len(temperatures)
    if normalise:
        size = (field.square().sum(1, keepdim=True) / free.sum()).sqrt()
        field = field / (size + 1e-8)
    return Drift(field, torch.stack(sizes))
