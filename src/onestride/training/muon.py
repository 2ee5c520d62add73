"""Muon as torch has it, in float32 where a processor multiplies bfloat16 one number at a time.

torch makes matrices orthogonal in bfloat16. On a CPU without units for that (any with AVX2 alone) its products run on
one thread and without vectors, and distilling takes hours instead of minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def cpu_multiplies_bfloat16() -> bool:
    """With AMX tiles or AVX-512 BF16; elsewhere bfloat16 is emulated."""
    able = torch.cpu.get_capabilities()
    return able.get("amx_bf16", False) or able.get("avx512_bf16", False)


class _Unrounded(TorchFunctionMode):
    """Casts of the host's tensors to bfloat16 keep float32; a copy, since what is cast may be written to."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.bfloat16 and args[0].device.type == "cpu":
            return args[0].clone()
        return func(*args, **(kwargs or {}))


class Muon(torch.optim.Muon):
    """``torch.optim.Muon`` (Jordan et al. 2024), whose products a CPU makes in the precision it is fast at."""

    def step(self, closure: Any = None) -> Any:
        if cpu_multiplies_bfloat16():
            return super().step(closure)
        with _Unrounded():
            return super().step(closure)
