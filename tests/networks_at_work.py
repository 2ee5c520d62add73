"""Networks as they are after some training, for tests."""

from __future__ import annotations

import torch


def awake(network):
    """The network with its zero-initialised layers moved, as after some training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network
