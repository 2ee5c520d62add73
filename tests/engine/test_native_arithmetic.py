"""What decide.c computes, by programs of one operation, and how near 8 bits are."""

from __future__ import annotations

import platform
import shutil

import numpy as np
import pytest
import torch

from onestride.compiling import COMPILERS
from onestride.engine import native
from onestride.engine.fold.policy import fold
from onestride.engine.layout import FIELDS, Flag, Kind
from onestride.engine.native import NativeError, NativeRunner, library
from onestride.engine.program import FEATURES, At, Program, write_program

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in COMPILERS), reason="needs a C compiler, which machines to learn on have"
)
has_8_bits = pytest.mark.skipif("not library().onestride_levels()", reason="needs 8 bits")


def outputs(bank, weight, flags=0, bias=None, outputs_of=None):
    """``bank`` (N, inputs) through one product, an entry at a time, since scores are what comes out."""
    n, inputs = bank.shape
    found = []
    for k in range(len(weight) if outputs_of is None else outputs_of):
        p = Program()
        x = p.buffer(inputs)
        p.add(Kind.START, x, x, inputs, inputs)
        where = {"weight": p.numbers(weight), "bias": p.numbers(bias)}
        p.add(Kind.PRODUCT, x, At(FEATURES), inputs, len(weight), flags=flags, **where)
        one = torch.zeros(len(weight))
        one[k] = 1
        nothing = p.numbers(torch.zeros(max(inputs, len(weight))))
        p.add(Kind.SCORE, At(FEATURES), At(FEATURES), len(weight), 1, weight=p.numbers(one), bias=nothing, scale=1.0)
        header = dict.fromkeys(FIELDS, 0) | {
            "observation": 1, "state": 1, "inputs": 1, "known": inputs, "candidates": n, "draws": 1, "hidden": inputs,
            "features": len(weight), "decoded": 1, "action": 1, "known_weight": nothing, "known_bias": nothing,
            "offset": nothing, "noise_bank": p.numbers(bank), "finish_weight": nothing, "finish_bias": nothing,
            "low": nothing, "high": nothing, "handicap": -1,
        }  # fmt: skip
        found.append(NativeRunner(p.written(header), 1).run(np.zeros(1, np.float32), 0).scores.copy())
    return np.stack(found, 1)


def test_silu_is_exact_to_float32_everywhere():
    x = torch.linspace(-100, 100, 4001)
    x = torch.cat((x, torch.logspace(-30, 1, 200), -torch.logspace(-30, 1, 200)))[:, None]
    found = outputs(x, torch.ones(1, 1), flags=Flag.SILU)[:, 0]
    wanted = torch.nn.functional.silu(x.double())[:, 0].numpy()
    near = np.abs(x[:, 0].numpy()) < 85  # beyond, e^-x is held
    np.testing.assert_allclose(found[near], wanted[near], rtol=5e-7, atol=1e-37)
    np.testing.assert_allclose(found[~near], wanted[~near], rtol=5e-7, atol=1e-34)


@pytest.mark.slow
@has_8_bits
@pytest.mark.parametrize("narrow", [False, True])
def test_8_bits_are_exact_where_everything_is_whole(narrow, tmp_path, monkeypatch):
    if narrow and platform.machine() == "x86_64":  # AVX2, of a processor that has AVX-512 too
        monkeypatch.setenv("CFLAGS", "-mno-avx512f")
        monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    levels, rng = native.library().onestride_levels(), np.random.default_rng(0)
    bank = rng.integers(-63, levels - 62, size=(19, 70)).astype(np.float32)
    bank[:, 0], bank[:, 1] = -63, levels - 63  # one step is 1
    bank[0, 2:], bank[1, 2:] = -63, levels - 63
    weight = rng.integers(-127, 128, size=(53, 70)).astype(np.float32)
    weight[:, 2] = 127
    weight[0], weight[1] = 127, -127  # the largest sums there are
    bias = rng.integers(-9, 9, size=53).astype(np.float32)
    found = outputs(torch.from_numpy(bank), torch.from_numpy(weight), Flag.EIGHT_BITS, torch.from_numpy(bias), 53)
    np.testing.assert_allclose(found, bank @ weight.T + bias, rtol=1e-6, atol=1e-2)


@has_8_bits
def test_weights_and_inputs_of_nothing_are_nothing_in_8_bits():
    nothing, bias = torch.zeros(3, 20), torch.arange(5.0)
    for bank, weight in ((nothing, torch.ones(5, 20)), (torch.ones(3, 20), torch.zeros(5, 20))):
        found = outputs(bank, weight, Flag.EIGHT_BITS, bias, 5)
        np.testing.assert_array_equal(found, np.tile(bias.numpy(), (3, 1)))


@has_8_bits
def test_8_bits_are_near_and_what_is_not_finite_stays_so(make, observations):
    policy = make(candidates=64, latent_dim=64, hidden=64)
    folded = fold(policy, draws=8)
    runner = NativeRunner(write_program(folded, "int8"), 2, "native-int8")
    near = []
    for i, row in enumerate(np.random.default_rng(0).normal(size=(50, 17)).astype(np.float32)):
        wanted, found = folded(torch.from_numpy(row), torch.tensor([i % 8])), runner.run(row, i % 8)
        near.append(np.abs(found.scores - wanted.scores.numpy()).max() / wanted.scores.std())
    assert 0 < np.median(near) < 0.2 * 255 / library().onestride_levels()
    folded.noise_bank[:, 3, 5] = torch.inf
    found = NativeRunner(write_program(folded, "int8"), 1, "native-int8").run(observations[0].astype(np.float32), 0)
    assert np.flatnonzero(~np.isfinite(found.scores)).tolist() == [3]


def test_8_bits_need_a_processor_that_has_them(make, monkeypatch):
    class Old:
        onestride_levels = staticmethod(lambda: 0)

    monkeypatch.setattr(native, "library", lambda: Old)
    with pytest.raises(NativeError, match=r"need AVX2.*take onnx-int8"):
        NativeRunner(write_program(fold(make(), draws=1), "int8"), 1, "native-int8")
