"""The cores that this process may really use, and what the program tells torch's threads of them.

Nothing here imports torch: its OpenMP reads the environment once, when it is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Any of them says how threads wait: what OpenMP's standard, GNU's library (torch's wheels) and Intel's go by.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Any of them says how many threads there are to be.
COUNTING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")


def usable_cores(process: Path = Path("/proc/self")) -> int:
    """Return how many cores this process may keep busy: by its affinity, and by its control groups' CPU quota.

    A quota of one and a half cores counts as one: a thread too many would be put to sleep in the middle of its work.

    Args:
        process: Where Linux says what this process may do.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([there, *(int(quota) for quota in _quotas(process))]))


def set_up_threads() -> str | None:
    """Have torch's threads sleep where they wait, and be as many as there are usable cores; the user's settings win.

    It changes the environment, so that processes started later do likewise. To be called before torch is imported.

    Returns:
        What to tell the user: None where all of the machine's cores are used, or where the user says how many.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    cores, machine = usable_cores(), os.cpu_count() or 1
    if cores >= machine or any(name in os.environ for name in COUNTING):
        return None
    os.environ["OMP_NUM_THREADS"] = str(cores)
    return f"{cores} of this machine's {machine} cores may be used: computing on {cores} thread{'s' * (cores > 1)}"


def _quotas(process: Path) -> Iterator[float]:
    """CPU quotas of the control groups that hold this process, and of those that hold them [cores]."""
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
    """A line of mountinfo, a group's controllers and path -> its folder and the mount's; None: the group is not there.

    Version 2 has one hierarchy with no controllers' names; in version 1 the quota belongs to the controller ``cpu``.
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
    """Quotas of a group's folder and of those above it, up to the top [cores]."""
    for at in (folder, *folder.parents):
        quota = _quota(at)
        if quota is not None:
            yield quota
        if at == top:
            return


def _quota(folder: Path) -> float | None:
    """A group's own quota [cores]; None: it has none."""
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
