"""Settings of diffusion_policy's checkpoints: what the records of OmegaConf's objects hold, by its place."""

from __future__ import annotations

import re
from typing import Any

from onestride.data.pickled import Made, describe
from onestride.files import CheckpointError

DEEPEST = 30  # settings in settings
LOOKED_UP = 1000  # settings that stand for others


class Settings:
    """Settings by their places, such as ``policy.horizon``; ``${horizon}`` stands for another place's.

    Args:
        plain: dictionaries, lists and values.
        where: they are from, for messages.
    """

    def __init__(self, plain: Any, where: str) -> None:
        self.where = where
        self._plain, self._left = plain, LOOKED_UP

    def at(self, place: str) -> Any:
        """Return the setting at a place, None where there is none."""
        return self._at(place, 0)

    def value(self, found: Any) -> Any:
        """Return what was found within a setting, or what it stands for."""
        return self._stands_for(found, 0)

    def count(self, place: str, missing: int | None = None) -> int:
        """Return a positive whole number, or ``missing`` where there is none.

        Raises:
            CheckpointError: it is no such number.
        """
        found = self.at(place)
        return missing if found is None and missing is not None else self.counted(found, place)

    def counted(self, found: Any, place: str) -> int:
        """Return a positive whole number that was found at a place.

        Raises:
            CheckpointError: it is no such number.
        """
        if type(found) is not int or not 1 <= found <= 65_536:
            raise CheckpointError(f"{self.where}: {place} is {describe(found):.60}, expected a number of 1 or more")
        return found

    def _at(self, place: str, depth: int) -> Any:
        found = self._plain
        for name in place.split("."):
            found = self._stands_for(found.get(name), depth) if isinstance(found, dict) else None
        return found

    def _stands_for(self, found: Any, depth: int) -> Any:
        named = re.fullmatch(r"\$\{([\w.]+)\}", found) if isinstance(found, str) else None
        if named is None or depth == DEEPEST or not self._left:
            return found
        self._left -= 1
        return self._at(named[1], depth + 1)


class Budget:
    """How many values may still be read: records may hold one another many times over."""

    left = 100_000

    def spend(self, depth: int) -> None:
        """Count a value.

        Raises:
            ValueError: there are too many, or it is nested too deeply.
        """
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            raise ValueError("its settings are nested too deeply")


def plain_settings(made: Any, budget: Budget, depth: int = 0) -> Any:
    """Return settings as dictionaries, lists and values, from the records of OmegaConf's objects.

    Raises:
        ValueError: there are too many, or they are nested too deeply.
    """
    budget.spend(depth)
    if isinstance(made, Made):
        state = made.state if isinstance(made.state, dict) else {}
        return plain_settings(state.get("_content", state.get("_val")), budget, depth + 1)
    if isinstance(made, dict):
        return {name: plain_settings(value, budget, depth + 1) for name, value in made.items()}
    if isinstance(made, list):
        return [plain_settings(value, budget, depth + 1) for value in made]
    return made
