"""Classifier-free guidance: what a denoiser says with a condition, moved away from what it says without."""

from __future__ import annotations

from torch import Tensor


def classifier_free(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Return ``(1 + w) D(x | c) - w D(x)``, of noise or of plans alike (Ho and Salimans 2022, eq. 6).

    The two weights add up to 1, so that the result is on the scale of both. 0: the conditional one as it is; -1: the
    unconditional one.
    """
    if weight == 0:
        return conditional
    return conditional + weight * (conditional - unconditional)
