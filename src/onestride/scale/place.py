"""Where units of work are carried out, for as long as a command lasts: in this machine's processes, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onestride.scale.cluster import Cluster

_cluster: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def current() -> Cluster | None:
    """Return the cluster that work goes to; None: it is done here."""
    return _cluster.get()


@contextmanager
def working_on(on: str, root: Path, processes: int | None = None) -> Iterator[Cluster | None]:
    """Send units of work to a cluster while the block lasts.

    Args:
        on: "local": nowhere; "ray": to a Ray of this machine; "ray://HOST:PORT": to that cluster.
        root: a folder that all machines see, in which the work is.
        processes: of a Ray of this machine; None: one per usable core.

    Raises:
        ValueError: see ``cluster.check_address`` and ``cluster.connected``.
        ModuleNotFoundError: Ray is not installed.
    """
    from onestride.scale.cluster import LOCAL, check_address, connected

    check_address(on)
    if on == LOCAL:
        yield None
        return
    with connected(on, root, processes) as cluster, using(cluster):
        yield cluster


@contextmanager
def using(cluster: Cluster) -> Iterator[None]:
    """Send units of work to a cluster that is connected, while the block lasts."""
    before = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(before)
