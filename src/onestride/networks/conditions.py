"""What may be asked for beside the context: every condition has an embedding of its own, which is 0 where nothing is.

Not asked for is said by NaN in a condition's place. The value 0 would not do: it is one that may be asked for, such as
the mean return. So a batch, a pair, a decision and an exported graph hold conditions in one array of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

WIDTH = 64  # of a condition's embedding
LIMIT = float(torch.finfo(torch.float32).max)  # of what may be asked for, where nobody said
COLUMN = "condition."  # begins the names of a batch's columns that are conditions


class ConditionEmbedding(nn.Module):
    """Maps named conditions to one vector (B, E), E = ``WIDTH`` for each; zeros for one that is not asked for.

    Its last layers start at zero, so that a network which is given the vector starts as one that is asked for nothing,
    and asked for nothing it stays that one: zeros add nothing to a product.

    Args:
        conditions: names and sizes, in order.
    """

    low: Tensor
    high: Tensor

    def __init__(self, conditions: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.sizes = dict(conditions)
        self.embeddings = nn.ModuleList()  # by number: a name such as "return" is none that a graph can be written with
        for _, size in conditions:
            last = nn.Linear(WIDTH, WIDTH)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.embeddings.append(nn.Sequential(nn.Linear(size, WIDTH), nn.SiLU(), last))
        # Between which numbers each may be asked for.
        self.register_buffer("low", torch.full((self.numbers,), -LIMIT))
        self.register_buffer("high", torch.full((self.numbers,), LIMIT))

    @property
    def width(self) -> int:
        """E."""
        return WIDTH * len(self.sizes)

    @property
    def numbers(self) -> int:
        """K, of all conditions together."""
        return sum(self.sizes.values())

    def limit(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        """Keep between which numbers each of these conditions may be asked for."""
        at = 0
        for name, size in self.sizes.items():
            if name in bounds:
                low, high = (max(min(bound, LIMIT), -LIMIT) for bound in bounds[name])
                self.low[at : at + size], self.high[at : at + size] = low, high
            at += size

    def forward(self, asked: Mapping[str, Tensor], rows: int = 1) -> Tensor:
        """Return the embedding of what is asked for.

        Args:
            asked: values (B, size) by name. A row with a NaN does not ask for it, nor does any row for a name that is
                left out.
            rows: B, where nothing is asked for.

        Raises:
            ValueError: a name is unknown, or a value has another size.
        """
        unknown = asked.keys() - self.sizes.keys()
        if unknown:
            known = ", ".join(self.sizes)
            raise ValueError(f"nothing was learnt of {', '.join(sorted(unknown))}; what can be asked for: {known}")
        rows = max((len(value) for value in asked.values()), default=rows)
        parts = []
        for (name, size), embedding in zip(self.sizes.items(), self.embeddings, strict=True):
            if name not in asked:
                parts.append(self.low.new_zeros(rows, WIDTH))
                continue
            value = asked[name]
            if value.shape[1:] != (size,):
                raise ValueError(f"condition '{name}' has shape {tuple(value.shape)}, expected (B, {size})")
            there = (value == value).all(1, keepdim=True)  # NaN is not itself
            made = embedding(torch.where(there, value, torch.zeros_like(value)))
            parts.append(made * there)
        return torch.cat(parts, 1)

    def by_name(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return conditions (B, K), one after the other, by their names."""
        return dict(zip(self.sizes, numbers.split(list(self.sizes.values()), 1), strict=True))


def left_out(asked: Mapping[str, Tensor], share: float, rng: torch.Generator) -> dict[str, Tensor]:
    """Return conditions (B, size) by name, each of which a share of the rows, by itself, does not ask for."""
    made = {}
    for name, value in asked.items():
        gone = torch.rand(len(value), 1, generator=rng, device=value.device) < share
        made[name] = torch.where(gone, torch.full_like(value, torch.nan), value)
    return made


def of_batch(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch's conditions (B, size) by name."""
    return {name.removeprefix(COLUMN): column for name, column in batch.items() if name.startswith(COLUMN)}
