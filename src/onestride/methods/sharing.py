"""Generators that share another one's weights, but not all of its settings."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

G = TypeVar("G", bound=nn.Module)


def sharing(generator: G, **changes: Any) -> G:
    """Return a generator with these attributes, such as ``config``; its weights are the other's, not copies."""
    made = copy.copy(generator)
    made._modules = dict(generator._modules)  # else a module among the changes would be the other's too
    for name, value in changes.items():
        setattr(made, name, value)
    return made
