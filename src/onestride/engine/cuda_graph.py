"""A decision, or a teacher's whole sampling, as one CUDA graph: the CPU launches once, whatever runs within.

Inputs are copied into buffers that stay, results into others. Whatever is captured has been run three times before,
on a stream of its own, so that libraries have chosen their kernels and made their workspaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from onestride.engine.reduce import Reduced
from onestride.engine.runners import Answer

Products = Literal["float32", "tf32", "bfloat16"]
WARM_UPS = 3


class CudaGraphRunner:
    """A reduced decision on the GPU, as the engine runs it.

    products: what matrix products are done in: "float32" is the policy's own; "tf32" and "bfloat16" differ a little
    (the decision's other arithmetic stays in float32).
    """

    checks = False

    def __init__(self, reduced: Reduced, device: torch.device | str, *, products: Products = "float32") -> None:
        self.name = "cuda-graph" if products == "float32" else f"cuda-graph, {products}"
        _needs_cuda(device)
        module = reduced.to(device)
        self._observation = torch.zeros(reduced.task.observation_dim, device=device)
        self._draw = torch.zeros(1, dtype=torch.int64, device=device)
        # Pinned on the host: copies then need no staging buffer.
        self._from = torch.zeros(reduced.task.observation_dim, pin_memory=True)
        self._index = torch.zeros(1, dtype=torch.int64, pin_memory=True)
        self._replay, choice = captured(
            lambda: tuple(v for v in module(self._observation, self._draw) if v is not None), device, products
        )
        self._choice = choice
        self._to = [torch.zeros(v.shape, dtype=v.dtype, pin_memory=True) for v in choice]
        self._device = torch.device(device)

    @torch.inference_mode()
    def run(self, observation: np.ndarray, draw: int) -> Answer:
        self._from.copy_(torch.from_numpy(observation))
        self._index[0] = draw
        self._observation.copy_(self._from, non_blocking=True)
        self._draw.copy_(self._index, non_blocking=True)
        self._replay()
        for there, here in zip(self._choice, self._to, strict=True):
            here.copy_(there, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        values = [v.numpy() for v in self._to]
        plan = values[4] if len(values) > 4 else None
        return Answer(values[0], float(values[1]), int(values[2]), values[3], plan)


class CudaGraphPlanner(nn.Module):
    """A generator: every network call of another one's ``sample`` in one graph, guidance and added noise included.

    Captured at the first call, for priors and context of its shapes; a later call of other shapes is an error.
    """

    def __init__(self, planner: Any, *, products: Products = "float32") -> None:
        super().__init__()
        self.planner = planner
        self.products: Products = products
        self.config, self.nfe = planner.config, planner.nfe
        self._replay: Callable[[], None] | None = None

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """As the generator's own. The result is overwritten by the next call."""
        if self._replay is None:
            _needs_cuda(prior.device)
            self._prior, self._context = prior.clone(), None if context is None else context.clone()
            self._replay, (self._plans,) = captured(
                lambda: (self.planner.sample(self._prior, self._context, generator=generator),),
                prior.device,
                self.products,
                generator,
            )
        if prior.shape != self._prior.shape:
            raise ValueError(f"prior is {tuple(prior.shape)}, the graph was captured for {tuple(self._prior.shape)}")
        self._prior.copy_(prior)
        if self._context is not None and context is not None:
            self._context.copy_(context)
        self._replay()
        return self._plans


def captured(
    work: Callable[[], tuple[Tensor, ...]],
    device: torch.device | str,
    products: Products,
    generator: torch.Generator | None = None,
) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """``work`` as a graph: what replays it, and the tensors that then hold what it gives.

    generator: one that ``work`` draws from; it goes on at every replay.
    """
    graph = torch.cuda.CUDAGraph()
    state = None if generator is None else generator.get_state()
    with torch.inference_mode(), torch.cuda.device(device), _products(products):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        if generator is not None and state is not None:
            generator.set_state(state)  # as if it had not been tried
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            outputs = work()
    return graph.replay, outputs


@contextmanager
def _products(products: Products) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = products == "tf32"
    try:
        with torch.autocast("cuda", torch.bfloat16, enabled=products == "bfloat16", cache_enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _needs_cuda(device: torch.device | str) -> None:
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        raise ValueError(f"a CUDA graph needs a CUDA device, got {device}")
