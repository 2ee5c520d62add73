"""The number of cores that this process may use, and the settings of torch's threads.

Nothing here imports torch, because its OpenMP reads the environment once, when it is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Environment variables that set how threads wait: of the OpenMP standard, GNU's library (torch's wheels) and Intel's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Environment variables that set the number of threads.
COUNTING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")


def usable_cores(process: Path = Path("/proc/self")) -> int:
    """Return how many cores this process may use, by its affinity and its control groups' CPU quota.

    A quota of one and a half cores counts as one, because a second thread would be suspended in the middle of its
    work.

    Args:
        process: this process's folder in Linux's /proc.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([there, *(int(quota) for quota in _quotas(process))]))


def set_up_threads() -> str | None:
    """Let torch use one thread per usable core, and let its threads sleep while they wait.

    Settings of the user are kept. The environment is changed, so that it holds for processes started later. Call it
    before torch is imported.

    Returns:
        A message for the user, or None where all cores of the machine are used or the user set the number.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores, machine = usable_cores(), os.cpu_count() or 1
    if cores >= machine or any(name in os.environ for name in COUNTING):
        return None
    os.environ["OMP_NUM_THREADS"] = str(cores)
    return f"{cores} of this machine's {machine} cores may be used: computing on {cores} thread{'s' * (cores > 1)}"


def _quotas(process: Path) -> Iterator[float]:
    """Yield the CPU quotas of this process's control groups and of the groups above them [cores]."""
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:  # no Linux, or one that does not say
        return
    for controllers, path in (line.split(":", 2)[1:] for line in groups if line.count(":") >= 2):
        for mount in mounts:
            if folder := _folder(mount, controllers, path):
                yield from _up_from(*folder)


def _folder(mount: str, controllers: str, path: str) -> tuple[Path, Path] | None:
    """Return a group's folder and its mount point, or None where the group is not mounted there.

    Version 2 has one hierarchy without names of controllers. In version 1 the quota belongs to the controller ``cpu``.

    Args:
        mount: a line of mountinfo.
        controllers: of the group.
        path: of the group.
    """
    fields, _, rest = mount.partition(" - ")
    kind, _, options = [*rest.split(), "", "", ""][:3]
    first = kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(",")
    if not (first or (kind == "cgroup2" and not controllers)):
        return None
    root, point = (re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), field) for field in fields.split()[3:5])
    below = os.path.relpath(path, root)
    # A container may see its own group alone, mounted as if it were the first.
    inside = Path(point) / below if below != ".." and not below.startswith("../") else Path(point)
    return (inside if inside.is_dir() else Path(point)), Path(point)


def _up_from(folder: Path, top: Path) -> Iterator[float]:
    """Yield the quotas of a group's folder and of those above it, up to the top [cores]."""
    for at in (folder, *folder.parents):
        quota = _quota(at)
        if quota is not None:
            yield quota
        if at == top:
            return


def _quota(folder: Path) -> float | None:
    """Return a group's own quota [cores], or None where it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):  # not given here
        return None
    if not (quota.isdecimal() and period.isdecimal() and int(period)):  # "max", or -1
        return None
    return int(quota) / int(period)
