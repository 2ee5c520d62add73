"""A decision as an ONNX graph: standard operators only, which every runtime fuses as it likes.

Inputs ``observation`` float32 (observation_dim,) and ``draw`` int64 (1,), with conditions ``asked`` float32 (K,), NaN
where one is not asked for, or with a prefix ``committed`` float32 (P, A), NaN where a row is not. Outputs ``action``
float32 (A,), ``score`` float32 (), ``winner`` int64 (), ``scores`` float32 (N,), and ``plan`` float32 (H, D) where it
is decoded.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onestride.engine.fold.critic import Batched, CriticScorer, Separate
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import FoldedPolicy
from onestride.engine.runners import INPUTS, OUTPUTS, onnx_runtime
from onestride.engine.whole import DecisionModule, beside_of
from onestride.errors import naming_extras

OPSET = 18
LARGE = ("body.", "scorer.second.")  # layers of a decision that 8 bits are for


def write_graph(decision: DecisionModule, path: Path, *, int8: bool = False) -> None:
    """Write the graph to ``path``.

    int8: the large products in 8 bits (weights per output, activations as they come): the body's, and the critics'
    second layers. What decodes and everything thin stays in float32.

    Raises:
        NoEngineError: 8 bits of a policy that is not folded.
        ImportError: the export extra is not installed.
    """
    example: tuple[Tensor, ...] = (torch.zeros(decision.control.observation_dim), torch.zeros(1, dtype=torch.int64))
    inputs = INPUTS
    if (beside := beside_of(decision)) is not None:
        name, shape = beside
        example, inputs = (*example, torch.full(shape, torch.nan)), (*INPUTS, name)
    wrapped = _Outputs(_in_layers(decision) if int8 else decision).eval()
    write_module(wrapped, example, inputs, OUTPUTS[: len(wrapped(*example))], path, int8=int8)


def _in_layers(decision: DecisionModule) -> FoldedPolicy:
    """The same decision with the critics' layers one by one."""
    if not isinstance(decision, FoldedPolicy):
        raise NoEngineError("8 bits are for the products of a folded policy, and this one's generator has no fold")
    decision = copy.deepcopy(decision)
    if isinstance(decision.scorer, CriticScorer):
        assert isinstance(decision.scorer.second, Batched)
        decision.scorer.second = Separate(decision.scorer.second).requires_grad_(False)
    return decision


def write_module(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    path: Path,
    *,
    int8: bool = False,
) -> None:
    """Any module of fixed shapes as a graph; inputs it does not use are left out.

    Raises:
        ImportError: the export extra is not installed.
    """
    with naming_extras():
        import onnx
        import onnxscript  # noqa: F401
    with quiet():
        program = torch.onnx.export(
            module, example, dynamo=True, opset_version=OPSET, input_names=list(inputs), output_names=list(outputs),
            verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    # What is left of the writing: stale shapes of folded constants, and where on the writer's disk each line stood.
    model.graph.ClearField("value_info")
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.ClearField("functions")
    model = _in_8_bits(model, path) if int8 else model
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _in_8_bits(model: Any, path: Path) -> Any:
    import onnx

    quantization = onnx_runtime("quantization")
    weight_type = quantization.QuantType.QInt8
    large = [
        n.name
        for n in model.graph.node
        if n.op_type == "Gemm" and n.input[1].removeprefix("decision.").startswith(LARGE)
    ]
    # Equal weights were written once, and the quantiser would turn them round once for every layer that has them.
    by_name = {i.name: i for i in model.graph.initializer}
    seen = set()
    for node in model.graph.node:
        if node.op_type == "Gemm":
            weight = node.input[1]
            if weight in seen:
                again = onnx.TensorProto()
                again.CopyFrom(by_name[weight])
                again.name = node.input[1] = f"{weight}.{node.name}"
                model.graph.initializer.append(again)
            seen.add(weight)
    with quiet():
        # The quantiser takes a Gemm for a MatMul and an Add, and calls the product so.
        quantization.quantize_dynamic(
            model, path, nodes_to_quantize=[f"{name}_MatMul" for name in large], weight_type=weight_type,
            per_channel=True,
        )  # fmt: skip
    return onnx.load(path)


class _Outputs(nn.Module):
    """A choice as the tuple that a graph gives."""

    def __init__(self, decision: DecisionModule) -> None:
        super().__init__()
        self.decision = decision

    def forward(self, observation: Tensor, draw: Tensor, beside: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(value for value in self.decision(observation, draw, beside) if value is not None)


@contextmanager
def quiet() -> Iterator[None]:
    """The writers warn of what does not concern a user: packages that are not there, names to come."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
