"""Which settings differ, in a few words: what a refusal says of a folder that other settings made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 3  # that are named
LONGEST = 40  # of a value [characters]
NOTHING = "nothing"


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return " (NAME: VALUE there, VALUE asked for; ...)", or "" where nothing differs.

    found: the settings that are there. wanted: those of now. Either may hold others; entries are named with dots.
    """
    there, now = (dict(_entries(json.loads(json.dumps(settings)))) for settings in (found, wanted))
    names = [n for n in {**there, **now} if n not in there or n not in now or there[n] != now[n]]
    said = [f"{name}: {_short(there, name)} there, {_short(now, name)} asked for" for name in names[:MOST]]
    if further := names[MOST:]:
        said.append(f"and {len(further)} more")
    return f" ({'; '.join(said)})" if said else ""


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything that holds nothing named itself, by its name."""
    within = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        within = enumerate(value)
    for key, inside in within:
        yield from _entries(inside, f"{name}.{key}" if name else str(key))
    if not within:
        yield name, value


def _short(settings: dict[str, Any], name: str) -> str:
    text = json.dumps(settings[name]) if name in settings else NOTHING
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
