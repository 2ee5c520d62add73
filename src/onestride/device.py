"""The device that networks compute on. A forked process computes on one thread."""

from __future__ import annotations

import os

import torch


def _one_thread() -> None:
    torch.set_num_threads(1)


# A forked process has its parent's OpenMP pool but not the pool's threads, for which a computation would wait.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)


def resolve_device(device: torch.device | str) -> torch.device:
    """Return a device by its name, such as cpu, cuda, cuda:1 or mps, and check that torch can use it here.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).strip().split("\n", 1)[0].removesuffix(".")
        raise ValueError(
            f"torch {torch.__version__} cannot use device '{device}' here ({why}); take cpu, or what this machine has, "
            "such as cuda"
        ) from error
    return found
