"""The shape of a plan, and which of its entries are known before it is generated. NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np


class Block(NamedTuple):
    """Known entries of one row: columns first ... last - 1. Row -1 is the last row."""

    row: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """The shape of a plan (H, D) with D = O + A, and its known entries.

    Attributes:
        horizon: H, rows.
        state_dim: O, observation columns; 0 for a chunk of actions.
        action_dim: A, action columns.
        context_dim: C, size of the context.
        known: blocks of known entries, such as the observation in row 0, a goal in the last row, or actions that are
            committed already; None: the observation columns of row 0.
        conditions: names and sizes of what may be asked for beside the context.
        prefix: the longest prefix: so many of the first rows' actions may be committed when a plan is asked for.

    Raises:
        ValueError: a size is not positive, a block lies outside of the plan or overlaps another, or the prefix is as
            long as the plan.
    """

    horizon: int
    state_dim: int
    action_dim: int
    context_dim: int = 0
    known: tuple[Block, ...] | None = None
    conditions: tuple[tuple[str, int], ...] = ()
    prefix: int = 0

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.state_dim < 0 or self.action_dim < 0 or self.context_dim < 0 or not self.row_dim:
            raise ValueError(
                f"a plan of {self.horizon} rows, {self.state_dim} observation and {self.action_dim} action columns and "
                f"a context of {self.context_dim} numbers cannot be; expected at least one row and one column"
            )
        if not 0 <= self.prefix < self.horizon or (self.prefix and not self.action_dim):
            raise ValueError(
                f"the longest prefix is {self.prefix} rows of {self.action_dim} actions, of plans of {self.horizon} "
                "rows; expected 0 to one less than the plan has, and actions to commit"
            )
        taken: set[tuple[int, int]] = set()
        for row, first, last in self.blocks:
            inside = -self.horizon <= row < self.horizon and 0 <= first <= last <= self.row_dim
            entries = {(row % self.horizon, column) for column in range(first, last)}
            if not inside or entries & taken:
                raise ValueError(
                    f"known entries [{row}, {first}:{last}] lie outside of a plan of {self.horizon} rows and "
                    f"{self.row_dim} columns, or are named twice"
                )
            taken |= entries

    def as_json(self) -> dict[str, Any]:
        """Return the specification as JSON gives it back."""
        known = None if self.known is None else [list(block) for block in self.known]
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        if not self.prefix:  # what plans were before there were prefixes
            del said["prefix"]
        return said | {"known": known, "conditions": [list(each) for each in self.conditions]}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> PlanSpec:
        """Return what ``as_json`` gave.

        Raises:
            ValueError: there is no such plan.
        """
        known = None if said["known"] is None else tuple(Block(*block) for block in said["known"])
        return cls(**{**said, "known": known, "conditions": tuple((name, size) for name, size in said["conditions"])})

    @property
    def row_dim(self) -> int:
        """D = O + A, the columns of a plan."""
        return self.state_dim + self.action_dim

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of known entries; by default the observation columns of row 0."""
        return (Block(0, 0, self.state_dim),) if self.known is None else self.known

    @cached_property
    def mask(self) -> np.ndarray:
        """Whether each entry is known (H, D), bool."""
        mask = np.zeros((self.horizon, self.row_dim), bool)
        for row, first, last in self.blocks:
            mask[row, first:last] = True
        return mask

    @cached_property
    def known_entries(self) -> np.ndarray:
        """Indices of the known entries in the flattened plan (K,), row by row: the order of ``Given.values``."""
        return np.flatnonzero(self.mask)

    @cached_property
    def free_entries(self) -> np.ndarray:
        """Indices of all other entries in the flattened plan (H D - K,)."""
        return np.flatnonzero(~self.mask)

    @property
    def known_entries_first(self) -> np.ndarray:
        """Indices of all entries, known ones before free ones (H D,)."""
        return np.concatenate((self.known_entries, self.free_entries))

    @property
    def starts_with_observation(self) -> bool:
        """Whether the observation columns of row 0 are the only known entries, so that known entries come first."""
        return self.blocks == (Block(0, 0, self.state_dim),)
