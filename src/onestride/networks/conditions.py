"""What may be asked for beside the context: each condition has an embedding of its own, and one for "not asked"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

WIDTH = 64  # of a condition's embedding


class ConditionEmbedding(nn.Module):
    """Maps named conditions to one vector (B, E), E = ``WIDTH`` for each.

    A condition that is not asked for is a learnt vector of its own. Its value 0 would not do: 0 is a value that may be
    asked for, such as the mean return.

    Args:
        conditions: names and sizes, in order.
    """

    def __init__(self, conditions: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.sizes = dict(conditions)
        self.embeddings = nn.ModuleDict()
        for name, size in conditions:
            self.embeddings[name] = nn.Sequential(nn.Linear(size, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.nothing = nn.ParameterDict({name: nn.Parameter(0.1 * torch.randn(WIDTH)) for name, _ in conditions})

    @property
    def width(self) -> int:
        """E."""
        return WIDTH * len(self.sizes)

    def forward(self, asked: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None = None, rows: int = 1) -> Tensor:
        """Return the embedding of what is asked for.

        Args:
            asked: values (B, size) by name; names that are left out are not asked for.
            keep: of each row of a batch, whether its value counts (B,); None: all of them.
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
        for name, size in self.sizes.items():
            nothing = self.nothing[name].expand(rows, -1)
            if name not in asked:
                parts.append(nothing)
                continue
            if asked[name].shape[1:] != (size,):
                raise ValueError(f"condition '{name}' has shape {tuple(asked[name].shape)}, expected (B, {size})")
            made = self.embeddings[name](asked[name])
            parts.append(made if keep is None else torch.where(keep[name][:, None], made, nothing))
        return torch.cat(parts, 1)
