"""The folded decision as a program for ``decide.c``: operations on blocks of candidates, and their numbers.

Each operation reads columns of one buffer and writes columns of another; buffer 0 holds the features of all candidates,
the others are a thread's own, of one block. Weights lie as torch has them and are packed for the machine when the
program is loaded, so that the bytes are the same for every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from onestride.engine.fold.critic import Batched, CriticScorer
from onestride.engine.fold.koopman import KoopmanBody
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.plan_mlp import PlanMLPBody
from onestride.engine.fold.plans import PlanScorer
from onestride.engine.fold.policy import FoldedPolicy
from onestride.engine.fold.residual import ResidualBody
from onestride.engine.fold.returns import ReturnScorer
from onestride.engine.layout import FIELDS, HEADER, MAGIC, MAX_BUFFERS, OPERATION, VERSION, Flag, Kind, TaskKind
from onestride.engine.native import Precision
from onestride.engine.whole import DecisionModule
from onestride.networks.conditions import WIDTH
from onestride.policy.policy import unselected
from onestride.robot.control_spec import ControlSpec

TASKS = {"plain": TaskKind.PLAIN_TASK, "arm": TaskKind.ARM_TASK}
FEATURES = 0
EPSILON = 1e-5  # of torch's layer normalisation


class At(NamedTuple):
    """Columns of a buffer, from the first."""

    buffer: int
    column: int = 0


class Program:
    """Operations and numbers, one after the other."""

    def __init__(self) -> None:
        self.operations: list[bytes] = []
        self.widths = [0]
        self._numbers: list[np.ndarray] = []
        self._count = 0
        self._placed: dict[tuple[int, int], tuple[int, Tensor]] = {}

    def buffer(self, width: int) -> At:
        """A new one."""
        if len(self.widths) == MAX_BUFFERS:
            raise NoEngineError(f"a decision of more than {MAX_BUFFERS} buffers; run it by ONNX Runtime")
        self.widths.append(width)
        return At(len(self.widths) - 1)

    def numbers(self, values: Tensor | None) -> int:
        """Where these lie now; -1 for none. The same tensor lies there once."""
        if values is None:
            return -1
        key = values.data_ptr(), values.numel()
        if key in self._placed:
            return self._placed[key][0]
        at = self._count
        flat = np.ascontiguousarray(values.detach().cpu().numpy(), np.float32).ravel()
        self._numbers.append(np.pad(flat, (0, -len(flat) % 16)))  # each from a cache line on
        self._count += len(self._numbers[-1])
        self._placed[key] = at, values  # kept, so that nothing else comes to lie there
        return at

    def add(
        self, kind: int, source: At, to: At, inputs: int, outputs: int, *,
        flags: int = 0, groups: int = 1, weight: int = -1, bias: int = -1, scale: float = 0.0,
    ) -> None:  # fmt: skip
        """One operation; its buffer grows to what it writes."""
        written = to.column + (inputs * groups if kind == Kind.NORM else outputs)
        self.widths[to.buffer] = max(self.widths[to.buffer], written)
        numbers = (kind, flags, *source, *to, inputs, outputs, groups, weight, bias)
        self.operations.append(OPERATION.pack(*numbers, scale))

    def product(
        self, layer: nn.Module | Tensor, source: At, to: At, *, flags: int = 0, known: int | None = None
    ) -> None:
        """``layer``, an nn.Linear or a weight (out, in), from columns to columns. known: where its bias lies there."""
        weight = layer if isinstance(layer, Tensor) else layer.weight
        assert isinstance(weight, Tensor)
        bias = getattr(layer, "bias", None)
        outputs, inputs = weight.shape
        placed = self.numbers(bias) if known is None else known
        flags |= Flag.KNOWN if known is not None else 0
        self.add(Kind.PRODUCT, source, to, inputs, outputs, flags=flags, weight=self.numbers(weight), bias=placed)

    def norm(
        self, width: int, source: At, to: At, layer: nn.Module | None = None, *, groups: int = 1, silu: bool = True
    ) -> None:
        """Layer normalisation of each group of ``width`` columns."""
        gain, shift, epsilon = None, None, EPSILON
        if layer is not None:
            assert isinstance(layer, nn.LayerNorm)
            gain, shift, epsilon = layer.weight, layer.bias, layer.eps
        where = {"weight": self.numbers(gain), "bias": self.numbers(shift)}
        self.add(Kind.NORM, source, to, width, width, flags=Flag.SILU * silu, groups=groups, scale=epsilon, **where)

    def written(self, header: dict[str, int]) -> bytes:
        """The whole, little-endian."""
        header |= {"operations": len(self.operations), "buffers": len(self.widths), "numbers": self._count}
        widths = self.widths + [0] * (MAX_BUFFERS - len(self.widths))
        head = HEADER.pack(MAGIC, VERSION, *(header[field] for field in FIELDS), *widths)
        return head + b"".join(self.operations) + b"".join(n.astype("<f4").tobytes() for n in self._numbers)


def write_program(folded: DecisionModule, precision: Precision = "float32") -> bytes:
    """The program of a folded decision.

    precision: "int8" has the large products in 8 bits, weights per output, activations per candidate as they come.

    Raises:
        NoEngineError: a generator without a fold, a task that decide.c does not know, or another ranking than a
            critic's, a residual return model's or the task's own.
    """
    if not isinstance(folded, FoldedPolicy):
        raise NoEngineError(
            f"a {type(folded.generator).__name__} has no fold, which a native program needs; run it by ONNX Runtime "
            "(--engine onnx)"
        )
    task, p = folded.task, Program()
    if task.native is None:
        raise NoEngineError(f"task '{task.name}' has no native engine; run it by ONNX Runtime (--engine onnx)")
    if not task.plans.starts_with_observation:
        raise NoEngineError(
            f"the native engine knows plans of which row 0's observation is given, and of task '{task.name}' more or "
            "less is; run it by ONNX Runtime (--engine onnx)"
        )
    large = {"float32": 0, "int8": Flag.EIGHT_BITS}[precision]
    hidden = folded.noise_bank.shape[-1]
    features = At(FEATURES)
    h = p.buffer(hidden)
    p.add(Kind.START, h, h, hidden, hidden)
    width = _body(p, folded.body, h, features, large)
    if folded.skip_noise is not None:
        noise = folded.skip_noise.shape[-1]
        p.add(Kind.NOISE, features, At(FEATURES, width), noise, noise)
        width += noise
    known_bias, finish = folded.decision_bias.bias, folded.finish
    if isinstance(folded.scorer, CriticScorer):
        _critic(p, folded.scorer, features, hidden, large)
    elif isinstance(folded.scorer, ReturnScorer):
        first = _returns(p, folded.scorer, features, hidden, large)
        known_bias = torch.cat((known_bias[:hidden], known_bias[hidden:] + first.bias))
    elif isinstance(folded.scorer, PlanScorer) and folded.scorer.selector is task.score and task.native.kind == "arm":
        finish = _arm(p, folded.scorer, features, task.control)
    elif isinstance(folded.scorer, PlanScorer) and folded.scorer.selector is unselected:
        nothing = p.numbers(torch.zeros(width))  # 0 for whoever is finite
        p.add(Kind.SCORE, features, features, width, 1, weight=nothing, bias=nothing, scale=1.0)
        finish = folded.scorer.last
    else:
        raise NoEngineError("only critics and residual return models rank without ONNX Runtime (--engine onnx)")
    assert isinstance(finish, nn.Linear)
    bias, skip = folded.decision_bias, folded.skip_noise
    inputs = len(folded.offset)  # what is asked for comes after it
    control = task.control
    whole = finish.out_features == control.horizon * control.transition_dim - control.state_dim
    header = {
        "task": TASKS[task.native.kind], "observation": control.observation_dim, "state": control.state_dim,
        "inputs": inputs, "known": len(bias.bias), "candidates": folded.candidates,
        "draws": folded.draws, "hidden": hidden, "noise": 0 if skip is None else skip.shape[-1],
        "features": width, "decoded": finish.out_features, "action": control.action_dim,
        # Rows of what is decoded; 0: no plan, the first action alone.
        "horizon": control.horizon if whole else 0,
        "known_weight": p.numbers(bias.weight[:, :inputs].contiguous()), "known_bias": p.numbers(known_bias),
        "offset": p.numbers(folded.offset), "noise_bank": p.numbers(folded.noise_bank), "skip_bank": p.numbers(skip),
        "handicap": p.numbers(folded.score_penalty),
        "finish_weight": p.numbers(finish.weight), "finish_bias": p.numbers(finish.bias),
        "low": p.numbers(torch.from_numpy(control.limits.low)),
        "high": p.numbers(torch.from_numpy(control.limits.high)),
        "constants": p.numbers(task.native.constants), **_asked(p, folded, bias.weight[:, inputs:].contiguous()),
    }  # fmt: skip
    return p.written(header)


def _asked(p: Program, folded: FoldedPolicy, weight: Tensor) -> dict[str, int]:
    """Where the embedding of conditions lies, and what it adds to the known (weight); zeros where there are none."""
    conditions = folded.conditions
    if conditions is None:
        return dict.fromkeys(("conditions", "asked", "ask_width", "ask_sizes", "ask_layers", "ask_weight"), 0)
    layers: list[Tensor] = []  # of each condition in turn: first weight and bias, second weight and bias
    for embedding in conditions.embeddings:
        first, _, second = embedding  # type: ignore[misc]
        layers += [first.weight, first.bias, second.weight, second.bias]
    return {
        "conditions": len(conditions.sizes), "asked": conditions.numbers, "ask_width": WIDTH,
        "ask_sizes": p.numbers(torch.tensor(list(conditions.sizes.values())).float()),
        "ask_layers": p.numbers(torch.cat([layer.flatten() for layer in layers])), "ask_weight": p.numbers(weight),
    }  # fmt: skip


def product_program(rows: int, width: int, times: int) -> bytes:
    """So many products of ``width`` x ``width`` one after the other, on ``rows`` rows: to measure a machine by."""
    p, weight = Program(), torch.randn(width, width) / width**0.5
    buffers = [p.buffer(width), p.buffer(width), At(FEATURES)]
    p.add(Kind.START, buffers[0], buffers[0], width, width)
    for i in range(times):
        p.product(weight, buffers[i % 2], buffers[2 if i == times - 1 else (i + 1) % 2])
    one, nothing = p.numbers(torch.ones(width)), p.numbers(torch.zeros(width))
    p.add(Kind.SCORE, buffers[2], buffers[2], width, 1, weight=one, bias=nothing, scale=1.0)
    header = dict.fromkeys(FIELDS, 0) | {
        "observation": 1, "state": 1, "inputs": 1, "known": width, "candidates": rows, "draws": 1, "hidden": width,
        "features": width, "decoded": 1, "action": 1, "known_weight": one, "known_bias": nothing, "offset": nothing,
        "noise_bank": p.numbers(torch.zeros(rows, width)), "finish_weight": one, "finish_bias": nothing,
        "low": nothing, "high": one, "handicap": -1,
    }  # fmt: skip
    return p.written(header)


def _body(p: Program, body: nn.Module, h: At, to: At, large: int) -> int:
    """From the first layer's pre-activations ``h`` to the features; returns how many there are."""
    if isinstance(body, ResidualBody):
        _residual(p, body, h, to, large)
        return body.width
    if isinstance(body, PlanMLPBody):
        return _plan_mlp(p, body, h, to, large)
    assert isinstance(body, KoopmanBody)
    enter, *leave, arrive, decoded = body.norms
    other, width = p.buffer(0), len(enter.weight)  # type: ignore[arg-type]
    p.norm(width, h, h, enter)
    for encode, norm in zip(body.encode, leave, strict=True):
        p.product(encode, h, other, flags=large)
        p.norm(width, other, other, norm)
        h, other = other, h
    h, other = other, h  # from here on ``other`` has the encoder's last features
    if body.lift is None:
        p.product(body.carry, other, h, flags=large)
    elif body.gains is None:
        lifted = p.buffer(0)
        p.product(body.lift, other, lifted, flags=large | Flag.SILU)
        p.product(body.carry, lifted, h, flags=large)
    else:
        lifted, latent = p.buffer(0), body.gains.out_features
        weight, bias = body.lift.weight, body.lift.bias
        p.product(_Layer(weight[:latent], bias[:latent]), other, lifted, flags=large)  # Q z
        p.product(_Layer(weight[latent:], bias[latent:]), other, At(lifted.buffer, latent), flags=large | Flag.SILU)
        p.product(body.gains, At(lifted.buffer, latent), h, flags=large)
        p.add(Kind.TIMES, h, lifted, latent, latent)
        p.product(body.carry, lifted, h, flags=large)
    p.norm(body.carry.out_features, h, h, arrive)
    p.product(body.decode, h, other, flags=large)
    p.norm(body.decode.out_features, other, to, decoded)
    return body.decode.out_features


class _Layer(nn.Module):
    """Some outputs of a layer."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)


def _plan_mlp(p: Program, body: PlanMLPBody, h: At, to: At, large: int) -> int:
    norms = list(body.norms)
    other = p.buffer(0) if len(norms) > 1 else h  # every buffer is written to
    width = len(norms[0].weight)  # type: ignore[arg-type]
    for product, norm in zip(body.products, norms, strict=False):  # the last norm has no product after it
        p.norm(width, h, h, norm)
        p.product(product, h, other, flags=large)
        h, other = other, h
    p.norm(width, h, to, norms[-1])
    return width


def _residual(p: Program, body: ResidualBody, h: At, to: At, large: int) -> None:
    normed, wide = p.buffer(body.width), p.buffer(0)
    for expand, contract in zip(body.expand, body.contract, strict=True):
        p.norm(body.width, h, normed, silu=False)
        p.product(expand, normed, wide, flags=large | Flag.SILU)
        p.product(contract, wide, h, flags=large | Flag.ADD)
    p.norm(body.width, h, to, silu=False)


def _critic(p: Program, scorer: CriticScorer, features: At, known: int, large: int) -> None:
    """Mean over the judged rows of min Q; row by row, so that weights stay in the cache."""
    entries, members, width, dim = scorer.decode.out_features, scorer.members, scorer.width, scorer.transition_dim
    seen, h, deep = p.buffer(entries), p.buffer(0), p.buffer(0)
    p.product(scorer.decode, features, seen)
    limits = {"weight": p.numbers(scorer.low), "bias": p.numbers(scorer.high)}
    p.add(Kind.CLAMP, seen, seen, entries, entries, **limits)
    assert isinstance(scorer.second, Batched)
    weights, biases = scorer.second.weight.transpose(1, 2).contiguous(), scorer.second.bias[:, 0]
    layers = [_Layer(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    last = {"weight": p.numbers(scorer.last), "bias": p.numbers(scorer.last_bias)}
    rows = 1 + (entries - scorer.action_dim) // dim
    for row in range(rows):
        if row == 0:  # its state is the observed one, and part of the known
            p.product(scorer.action.weight, seen, h, known=known)
        else:
            p.product(scorer.pair, At(seen.buffer, scorer.action_dim + (row - 1) * dim), h)
        p.norm(width, h, h, groups=members)
        for i, layer in enumerate(layers):
            p.product(layer, At(h.buffer, i * width), At(deep.buffer, i * width), flags=large)
        p.norm(width, deep, deep, groups=members)
        p.add(Kind.SCORE, deep, deep, width, 1, groups=members, scale=1 / rows, **last)


def _returns(p: Program, scorer: ReturnScorer, features: At, known: int, large: int) -> nn.Linear:
    """The return model. Its first layer, given back, has the observation's share for a bias: its own goes there."""
    h, deep = p.buffer(scorer.body.width), p.buffer(0)
    layers = list(scorer.first) if isinstance(scorer.first, nn.Sequential) else [scorer.first]
    source, first = features, layers[-1]
    for layer in layers[:-1]:
        to = p.buffer(0)
        p.product(layer, source, to)
        source = to
    assert isinstance(first, nn.Linear)
    p.product(first.weight, source, h, known=known)
    _residual(p, scorer.body, h, deep, large)
    where = {"weight": p.numbers(scorer.output.weight), "bias": p.numbers(scorer.output.bias)}
    p.add(Kind.SCORE, deep, deep, scorer.body.width, 1, scale=1.0, **where)
    return first


def _arm(p: Program, scorer: PlanScorer, features: At, control: ControlSpec) -> nn.Linear:
    """The arm's geometry, which looks at positions alone; gives back what decodes the winner's whole plan."""
    rows = torch.arange(1, control.horizon) * control.transition_dim - control.state_dim
    wanted = (rows[:, None] + torch.arange(3)).flatten()
    path = p.buffer(len(wanted))
    p.product(_Layer(scorer.last.weight[wanted], scorer.last.bias[wanted]), features, path)
    p.add(Kind.ARM, path, path, len(wanted), 1)
    return scorer.last
