"""A decision, or a teacher's whole sampling, as one CUDA graph: the CPU launches once, whatever runs within.

Inputs are copied into buffers that stay, results into others. Whatever is captured has been run three times before,
on a stream of its own, so that libraries have chosen their kernels and made their workspaces.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from onestride.device import resolve_device
from onestride.engine.fold.critic import Batched
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import FoldedPolicy
from onestride.engine.graph import LARGE, quiet
from onestride.engine.runners import Answer
from onestride.engine.whole import DecisionModule, beside_of
from onestride.methods.prefixed import PrefixedPlanner
from onestride.methods.sighted import SightedPlanner

Products = Literal["float32", "tf32", "bfloat16"]
WARM_UPS = 3


class CudaGraphRunner:
    """A decision on the GPU, as the engine runs it: both copies between host and device are in the graph too.

    products: what matrix products are done in: "float32" is the policy's own; "tf32", and "bfloat16" for the large
    ones, differ a little.
    compiled: by ``torch.compile`` first, which takes half a minute and makes fewer kernels.

    Raises:
        ValueError: there is no CUDA device.
    """

    checks = False

    def __init__(
        self,
        decision: DecisionModule,
        device: torch.device | str,
        *,
        products: Products = "float32",
        compiled: bool = False,
    ) -> None:
        self.name = "compile, cuda-graph" if compiled else "cuda-graph"
        self.name += "" if products == "float32" else f", {products}"
        needs_cuda(device)
        self._device = torch.device(device)
        self._actions, self._last = decision.control.action_dim, decision.control.action_dim + 1 + decision.candidates
        self._rows = (decision.control.horizon, decision.control.transition_dim)
        module = lifted(rounded(decision) if products == "bfloat16" else decision, device).to(device)
        # Pinned on the host: a graph copies from and to no other memory.
        given = torch.zeros(numbers_given(decision), pin_memory=True)
        here = torch.zeros(given.shape, device=device)
        found = torch.zeros(module(here).shape, pin_memory=True)
        with tf32(products == "tf32"), quiet() if compiled else nullcontext():
            # Cudagraphs of the compiler's own would be within this one.
            decide = torch.compile(module, options={"triton.cudagraphs": False}) if compiled else module

            def work() -> tuple[Tensor, ...]:
                here.copy_(given, non_blocking=True)
                there = decide(here)
                found.copy_(there, non_blocking=True)
                return (there,)

            self._replay, _ = captured(work, device)
        self._kept = given, here, found, decide  # what the graph reads and writes
        self._given, self._found = given.numpy(), found.numpy()
        self._seen = decision.control.observation_dim
        self._given[self._seen : -1] = np.nan  # nothing is asked for

    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,), or commit these columns (P, A), from the next decision on; NaN: not."""
        self._given[self._seen : -1] = numbers.ravel()

    def run(self, observation: np.ndarray, draw: int) -> Answer:
        self._given[: self._seen] = observation
        self._given[-1] = draw
        self._replay()
        torch.cuda.current_stream(self._device).synchronize()
        winner, scores = int(self._found[self._actions]), self._found[self._actions + 1 : self._last]
        plan = self._found[self._last :].reshape(self._rows) if len(self._found) > self._last else None
        return Answer(self._found[: self._actions], float(scores[winner]), winner, scores, plan)


def numbers_given(decision: DecisionModule) -> int:
    """Return how many numbers a decision is made of: the observation's, what is asked for or committed, the draw."""
    beside = beside_of(decision)
    return decision.control.observation_dim + (0 if beside is None else math.prod(beside[1])) + 1


def pack(decision: DecisionModule) -> Callable[[Tensor], Tensor]:
    """The decision from one buffer to another: [observation | asked or committed | draw] ->
    [action | winner | scores | plan].

    Each way is then one copy, of float32.
    """
    seen, beside = decision.control.observation_dim, beside_of(decision)

    def decide(given: Tensor) -> Tensor:
        more = () if beside is None else (given[seen:-1].view(beside[1]),)
        choice = decision(given[:seen], given[-1:].long(), *more)
        plan = () if choice.plan is None else (choice.plan.flatten(),)
        return torch.cat((choice.action, choice.winner[None].float(), choice.scores, *plan))

    return decide


@torch.no_grad()
def lifted(decision: DecisionModule, device: torch.device | str) -> GraphModule:
    """``pack`` as a graph of operations on ``device``, still on the CPU: ``.to(device)`` moves all of it.

    What the task's functions hold as constants on the host, such as the arm's basis points, is a buffer of it: while
    a graph is captured nothing may be copied from there.
    """
    decide = pack(copy.deepcopy(decision).cpu())
    graph = make_fx(decide)(torch.zeros(numbers_given(decision)))
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = node.kwargs | {"device": torch.device(device)}
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def rounded(decision: DecisionModule) -> FoldedPolicy:
    """The same decision with its large products in bfloat16, and their weights kept in it.

    Of an autocast every replay would round all weights again. What decodes and everything thin stays in float32.

    Raises:
        NoEngineError: the policy is not folded, and nothing says which of its products are large.
    """
    if not isinstance(decision, FoldedPolicy):
        raise NoEngineError("bfloat16 is for the products of a folded policy, and this one's generator has no fold")
    decision = copy.deepcopy(decision)
    for name, layer in decision.named_modules():
        if f"{name}.".startswith(LARGE) and isinstance(layer, nn.Linear | Batched):
            layer.bfloat16()
            layer.register_forward_pre_hook(lambda _, given: (given[0].bfloat16(),))
            layer.register_forward_hook(lambda _layer, _given, made: made.float())
    return decision


def in_one_graph(generator: Any) -> Any:
    """Return a generator whose network calls are one graph; encoders of cameras stay outside, being asked once.

    One with a prefix stays as it is: it puts the prefix into every estimate, between the calls.
    """
    if isinstance(generator, PrefixedPlanner):
        return generator
    if not isinstance(generator, SightedPlanner):
        return CudaGraphPlanner(generator)
    generator.planner = CudaGraphPlanner(generator.planner)
    return generator


class CudaGraphPlanner(nn.Module):
    """A generator: every network call of another one's ``sample`` in one graph, guidance and added noise included.

    Captured at the first call, for priors and context of its shapes, its settings and its generator of noise; a later
    call of others is an error. Precision is that of the first call: torch's settings, and its autocast.
    """

    def __init__(self, planner: Any) -> None:
        super().__init__()
        self.planner = planner
        self.prior_scaled = getattr(planner, "prior_scaled", True)
        self._replay: Callable[[], None] | None = None

    @property
    def config(self) -> Any:
        """The generator's settings."""
        return self.planner.config

    @property
    def nfe(self) -> int:
        """Network calls of a decision."""
        return self.planner.nfe

    @torch.inference_mode()
    def sample(
        self,
        prior: Tensor,
        context: Tensor | None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As the generator's own. The result is overwritten by the next call.

        Raises:
            ValueError: there is no CUDA device, or the graph was captured for other shapes, other settings or another
                generator of noise.
        """
        if self._replay is None:
            needs_cuda(prior.device)
            self._prior, self._context = prior.clone(), None if context is None else context.clone()
            self._settings, self._generator = self.config, generator
            self._replay, (self._plans,) = captured(
                lambda: (self.planner.sample(self._prior, self._context, generator=generator),),
                prior.device,
                generator,
            )
        if prior.shape != self._prior.shape:
            raise ValueError(f"prior is {tuple(prior.shape)}, the graph was captured for {tuple(self._prior.shape)}")
        if self.config != self._settings or generator is not self._generator:
            raise ValueError(f"the graph was captured with {self._settings} and its own generator of noise, or none")
        self._prior.copy_(prior)
        if self._context is not None and context is not None:
            self._context.copy_(context)
        self._replay()
        return self._plans


def captured(
    work: Callable[[], tuple[Tensor, ...]], device: torch.device | str, generator: torch.Generator | None = None
) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """``work`` as a graph: what replays it, and the tensors that then hold what it gives.

    generator: one that ``work`` draws from; it goes on at every replay.
    """
    graph = torch.cuda.CUDAGraph()
    state = None if generator is None else generator.get_state()
    with torch.inference_mode(), torch.cuda.device(device), _autocast_without_memory():
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

    @torch.inference_mode()  # a replay writes the generators' seeds into tensors that were made in this mode
    def replay() -> None:
        graph.replay()

    return replay, outputs


def _autocast_without_memory() -> torch.autocast:
    """The caller's autocast, but that what it rounds is not kept: it would lie in the graph's memory."""
    return torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False
    )


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether products and convolutions on the GPU may be in TF32, for as long as this lasts."""
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = allowed
        yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.allow_tf32 = was


def needs_cuda(device: torch.device | str) -> None:
    """Raise ``ValueError`` unless that is a CUDA device, and torch can use it here."""
    if resolve_device(device).type != "cuda":
        raise ValueError(f"a CUDA graph needs a CUDA device, got {device}")
