"""The graph: what the folded module says, in standard operators, with nothing left to compute that need not be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from onestride.engine.fold.critic import Batched, Separate
from onestride.engine.fold.policy import fold
from onestride.engine.graph import OPSET, write_graph
from onestride.engine.runners import OnnxRunner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def written(folded, folder, **settings):
    write_graph(folded, folder / "g.onnx", **settings)
    return onnx.load(folder / "g.onnx"), OnnxRunner((folder / "g.onnx").read_bytes(), threads=1)


def agree(runner, folded, rows, atol=1e-5):
    for i, row in enumerate(np.asarray(rows, np.float32)):
        choice, answer = (
            folded(torch.from_numpy(row), torch.tensor([i % folded.draws])),
            runner.run(row, i % folded.draws),
        )
        lost = choice.score - choice.scores[answer.winner]
        assert lost <= 1e-4 * choice.scores.std()
        np.testing.assert_allclose(answer.scores, choice.scores, atol=1e-4)
        if lost == 0:
            np.testing.assert_allclose(answer.action, choice.action, atol=atol)
            assert answer.score == pytest.approx(float(choice.score), abs=1e-4)


@pytest.mark.slow
def test_a_critic_ranked_students_graph_is_lean_and_says_the_same(make, tmp_path):
    policy = make()
    folded = fold(policy, draws=8, plan=True)
    model, runner = written(folded, tmp_path)
    rng = np.random.default_rng(0)
    agree(runner, folded, 2 * rng.normal(size=(300, 17)))
    row = rng.normal(size=17).astype(np.float32)
    np.testing.assert_allclose(
        runner.run(row, 3).plan, folded(torch.from_numpy(row), torch.tensor([3])).plan, atol=1e-5
    )
    count = Counter(node.op_type for node in model.graph.node)
    # The known, 5 of the body, 5 of the critics (6 where they judge later rows too), the winner's plan.
    assert count["Gemm"] + count["MatMul"] <= 12 + (getattr(policy.selector, "rows", 1) > 1)
    assert count["LayerNormalization"] == 6
    assert len(model.graph.node) < 90
    assert {o.domain for o in model.opset_import} == {""}
    assert model.opset_import[0].version == OPSET
    assert not model.functions


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "selector"), [("consistency", "returns"), ("student", "returns-unet")])
def test_other_students_and_rankings(make, tmp_path, kind, selector):
    folded = fold(make(kind, selector=selector), draws=4)
    _, runner = written(folded, tmp_path)
    agree(runner, folded, np.random.default_rng(1).normal(size=(50, 17)))


@pytest.mark.slow
def test_the_arms_geometry_is_in_the_graph(make_arm_policy, arm_rows, tmp_path):
    folded = fold(make_arm_policy("student"), draws=4)
    _, runner = written(folded, tmp_path)
    agree(runner, folded, arm_rows(50))


@pytest.mark.slow
def test_nothing_of_where_it_was_written_is_in_it(make, tmp_path):
    write_graph(fold(make(), draws=2), tmp_path / "g.onnx")
    content = (tmp_path / "g.onnx").read_bytes()
    assert b".py" not in content
    assert b"/onestride/" not in content


@pytest.mark.slow
def test_8_bits_are_near_and_in_the_large_products_only(make, tmp_path):
    folded = fold(make(), draws=8)
    model, runner = written(folded, tmp_path, int8=True)
    count = Counter(node.op_type for node in model.graph.node)
    # Encoder, [Q | gains], gains, P and decoder, decoder; the second layer of both critics.
    assert count["MatMulInteger"] == 7
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer if "quantized" in i.name}
    bits = [name for name, array in arrays.items() if array.dtype == np.int8]
    assert sorted(name.removeprefix("decision.").split(".")[0] for name in bits) == ["body"] * 5 + ["scorer"] * 2
    assert isinstance(folded.scorer.second, Batched)  # the module that was written is as it was
    near = []
    for i, row in enumerate(np.random.default_rng(0).normal(size=(50, 17)).astype(np.float32)):
        choice, answer = folded(torch.from_numpy(row), torch.tensor([i % 8])), runner.run(row, i % 8)
        near.append(np.abs(answer.scores - choice.scores.numpy()).max() / choice.scores.std())
    assert 0 < np.median(near) < 0.3


def test_critics_layer_by_layer_are_the_batched_product():
    torch.manual_seed(0)
    batched = Batched(torch.randn(3, 8, 5, dtype=torch.float64), torch.randn(3, 1, 5, dtype=torch.float64))
    h = torch.randn(3, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(Separate(batched)(h), batched(h), atol=1e-13, rtol=0)
