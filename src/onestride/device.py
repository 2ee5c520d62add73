"""Where networks compute: whether torch has such a device here is asked before any work; on one thread after a fork."""

from __future__ import annotations

import os

import torch


def _one_thread() -> None:
    torch.set_num_threads(1)


# A forked child has its parent's OpenMP pool without its threads, and a computation on several would wait for them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)


def resolve_device(device: torch.device | str) -> torch.device:
    """The device by its name: cpu, cuda, cuda:1, mps.

    Raises:
        ValueError: torch knows no such device, or has none here.
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
