"""What a run has trained, by the names that people type. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from onestride.files import CONFIG
from onestride.registry import nearest


def trained(run: Path) -> list[str]:
    """Return the names of a run's folders that hold something trained."""
    return sorted(path.parent.name for path in run.glob(f"*/{CONFIG}"))


def trained_folder(run: Path, name: str) -> Path:
    """Return the folder of a run's policy by its own name, such as dnk-1, or by its method's: that of the first seed.

    Raises:
        ValueError: the run has none of that name. The message names the nearest, and those that there are.
    """
    there = trained(run)
    if not there:
        raise ValueError(f"{run} has no trained policy; name another --run, or train one with `onestride train`")
    if name in there:
        return run / name
    seeds: dict[str, list[int]] = {}
    for method, _, seed in (each.rpartition("-") for each in there):
        if seed.isdigit():
            seeds.setdefault(method, []).append(int(seed))
    if name in seeds:
        return run / f"{name}-{min(seeds[name])}"
    near = nearest(name, [*there, *seeds])
    hint = f" Did you mean '{near}'?" if near else ""
    raise ValueError(f"{run} has no policy '{name}'.{hint} There are: {', '.join(there)}")
