"""What the tests of training share: a small method that notes what it is given, and can be made to die."""

from __future__ import annotations

import torch
from torch import nn

from onestride.training.config import TrainConfig
from onestride.training.loop import train

ROWS, BATCH = 96, 16
CONFIG = TrainConfig(
    steps=120, batch_size=BATCH, learning_rate=1e-2, warmup=10, ema_decay=0.95, precision="32-true", accelerator="cpu",
    checkpoint_every=0.0,
)  # fmt: skip


class Toy(nn.Module):
    """Noisy regression; keeps what it was given and can be made to die, or to lose its senses, at a step."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))
        self.rows, self.after, self.calls = [], [], 0
        self.dies_at = self.nan_at = self.nan_gradient_at = None

    def training_step(self, batch, generator):
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.rows.append(batch["row"].tolist())
        self.after.append([p.detach().clone() for p in self.parameters()])
        noise = torch.randn(len(batch["x"]), 3, generator=generator)
        loss = (self.net(batch["x"] + 0.1 * noise) - batch["y"]).square().mean()
        if self.calls == self.nan_at:
            loss = loss * float("nan")
        if self.calls == self.nan_gradient_at:  # sqrt at 0: the value is 0, its slope is not a number
            loss = loss + (self.net[0].weight * 0).sum().sqrt()
        return {"loss": loss}

    def __deepcopy__(self, memo):
        other = Toy()
        other.load_state_dict(self.state_dict())
        return other


def toy_data(rows=ROWS):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=g)
    return {"x": x, "y": torch.stack((x.sum(1), x[:, 0] * x[:, 1]), 1), "row": torch.arange(rows)}


def run(method, folder, config=CONFIG, data=None, identity=None):
    return train(method, data or toy_data(), config, folder, title="toy", identity=identity or {"data": 1})


def same_bits(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
