"""Weights that torch saved, read without it: the same numbers, and nothing that claims more than the file holds."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from onestride.data.claims import FREE
from onestride.data.torch_weights import read_state_dict


def saved(state, **options):
    file = io.BytesIO()
    torch.save(state, file, **options)
    return bytearray(file.getvalue())


def rewritten(raw, change):
    """The file with ``change(name, bytes)`` for every member."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return bytearray(file.getvalue())


def test_the_numbers_are_what_torch_reads():
    rng = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 5, generator=rng)
    state = {
        "weight": whole,
        "part": whole[1:3, 2:],
        "turned": whole.T,
        "double": whole.double(),
        "half": whole.half(),
        "whole": torch.arange(4),
        "one": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
    }
    for made in (state, collections.OrderedDict(state)):
        found = read_state_dict(saved(made))
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            np.testing.assert_array_equal(found[name], tensor.float().numpy())
            assert found[name].dtype == np.float32


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": torch.zeros(1).expand(10**12)}, r"it claims 4e\+12 bytes in a file of"),
        ({"a": torch.zeros(1).expand(1000)}, r"'a' claims \(1000,\), and its storage has 1 numbers"),
        ({str(i): torch.zeros(1).expand(10**6) for i in range(100)}, r"it claims 4e\+08 bytes"),
        ({"a": torch.zeros(3).to_sparse()}, "it names torch._utils._rebuild_sparse_tensor"),
        ({"a": torch.zeros(3, device="meta")}, "it names torch"),
        ({"a": torch.nn.Linear(2, 2)}, "it names torch.nn.modules.linear.Linear"),
        ({"a": 1}, "expected policy.pth to be a state dict of tensors, got dict"),
        ([1], "expected policy.pth to be a state dict of tensors, got list"),
    ],
    ids=["claimed", "expanded", "many", "sparse", "meta", "module", "numbers", "list"],
)
def test_what_is_not_dense_tensors_is_refused(state, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_state_dict(saved(state))
    assert len(str(caught.value)) < 300


@pytest.mark.slow
def test_other_files_are_refused():
    state = {"a": torch.zeros(1000)}
    legacy = saved(state, _use_new_zipfile_serialization=False)
    bomb = rewritten(saved(state), lambda name, raw: bytes(2 * FREE) if name.endswith("data/0") else raw)
    gone = rewritten(saved(state), lambda name, raw: b"" if name.endswith("data/0") else raw)
    big = rewritten(saved(state), lambda name, raw: b"big" if name.endswith("byteorder") else raw)
    for raw, message in (
        (legacy, "cut short"),
        (saved(state)[:-30], "altered or cut short"),
        (bomb, "it claims 1.34e.08 bytes"),
        (gone, r"claims \(1000,\), and its storage has 0 numbers"),
        (big, "big-endian"),
        (bytearray(), "cut short"),
    ):
        with pytest.raises(ValueError, match=rf"policy\.pth holds more than tensors, or is cut short.*{message}"):
            read_state_dict(raw)


class Large:
    """What torch's own reader makes: it allows this call."""

    def __reduce__(self):
        return bytearray, (10**13,)


def test_nothing_is_made_by_calling():
    raw = rewritten(saved({}), lambda name, raw: pickle.dumps(Large()) if name.endswith("data.pkl") else raw)
    with pytest.raises(ValueError, match=r"it names builtins\.bytearray"):
        read_state_dict(raw)


def test_altered_bytes_end_in_a_refusal_or_in_numbers():
    raw, rng = saved({"a": torch.ones(3, 4), "b": torch.ones(5)}), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        altered = bytearray(raw)
        altered[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        try:
            read_state_dict(altered)
        except ValueError:
            refused += 1
    assert refused > 100
