"""Where networks compute: whether torch has such a device here is asked before any work."""

from __future__ import annotations

import torch


def usable(device: torch.device | str) -> torch.device:
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
