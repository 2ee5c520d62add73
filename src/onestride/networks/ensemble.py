"""Several small networks side by side, such as twin critics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Ensemble(nn.Module):
    """E networks of two hidden layers in three batched products: (B, I) -> (E, B)."""

    def __init__(self, members: int, inputs: int, hidden: int) -> None:
        super().__init__()
        sizes = ((inputs, hidden), (hidden, hidden), (hidden, 1))
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in sizes:
            bound = fan_in**-0.5
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Tensor) -> Tensor:
        """Return what every network says of every row (E, B)."""
        h = x.expand(len(self.weights[0]), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if i < 2:
                h = F.silu(F.layer_norm(h, h.shape[-1:]))
        return h[..., 0]
