"""Statistics of observations: read from a pickle without running it."""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from actor_files import VEC_NORMALIZE, Evil, O, pickled, ppo_state, torch_actor, write_zip
from onestride.data.actors import read_behaviour
from onestride.files import CheckpointError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("protocol", "dtype"), [(3, "<f8"), (4, "<f8"), (5, "<f8"), (4, ">f8"), (5, "<f4")])
def test_observations_are_normalised_as_the_pickle_says(tmp_path, rng, protocol, dtype):
    (tmp_path / "vecnormalize.pkl").write_bytes(pickled(protocol, dtype))
    path = write_zip(tmp_path / "p.zip", ppo_state(), _last_original_obs={":serialized:": "AAAA"})
    policy = read_behaviour(path, tmp_path / "vecnormalize.pkl")
    assert "stable_baselines3" not in sys.modules
    observations = 3 * rng.standard_normal((7, O))
    x = ((observations - np.arange(O) + 2) / np.sqrt(np.arange(O) + 0.51)).clip(-1.5, 1.5)
    body, mean, _ = torch_actor()
    with torch.no_grad():
        expected = mean(body(torch.from_numpy(x).float())).clamp(-1, 1)
    torch.testing.assert_close(torch.from_numpy(policy.act(observations)), expected)


def test_a_normaliser_of_rewards_alone_changes_nothing(tmp_path):
    (tmp_path / "v.pkl").write_bytes(pickled(norm_obs=False))
    path = write_zip(tmp_path / "p.zip", ppo_state())
    assert read_behaviour(path, tmp_path / "v.pkl").identity == read_behaviour(path).identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs_rms": {"a": 1}}, "expected a VecNormalize of vectors"),
        ({"epsilon": "small"}, "a number for 'epsilon', got 'small'"),
        ({"dtype": "<i8"}, r"an array \(5,\) of i8"),
    ],
)
def test_other_statistics_are_refused(tmp_path, changes, message):
    (tmp_path / "v.pkl").write_bytes(pickled(**changes))
    with pytest.raises(CheckpointError, match=message):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


@pytest.mark.parametrize("inside", [False, True])
def test_an_evil_normaliser_is_refused_and_not_run(tmp_path, inside):
    evil = Evil(tmp_path / "made")
    (tmp_path / "v.pkl").write_bytes(pickled(extra=evil) if inside else pickle.dumps(evil))
    with pytest.raises(CheckpointError, match=r"it names \w+\.mkdir, which no normaliser needs"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("raw", [b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps(np.zeros(O)), b"\x80\x04K"])
def test_another_pickle_is_refused(tmp_path, raw):
    (tmp_path / "v.pkl").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"v\.pkl is refused, expected a VecNormalize"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


# ---- pickles made to be read for ever, or into all memory ----


def nested(levels):
    """842 bytes and fewer whose text would have 2 ** levels characters: each tuple holds the one before twice."""
    return b"\x80\x04)" + b"\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(levels)) + b"."


def with_setting(value):
    """A VecNormalize whose epsilon is this piece of pickle."""
    name = f"{VEC_NORMALIZE}\nVecNormalize\n".encode()
    return b"\x80\x04c" + name + b")\x81}(X\x07\x00\x00\x00epsilon" + value + b"ub."


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (nested(120), "it holds tuple"),
        (pickle.dumps([[0] * 5] * 1000), "it holds list"),
        (with_setting(nested(120)[2:-1]), "its obs_rms is None"),
        (b"\x80\x04Nr\xff\xff\xff\xff.", "it holds None"),  # a memo of 2 ** 32
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "v.pkl is refused"),  # bytes of 2 ** 60
        (b"\x80\x04\x96" + b"\xff" * 7 + b"\x0f.", "v.pkl is refused"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "v.pkl is refused"),  # a frame of 2 ** 64
        (b"\x80\x04\x8b\xd0\x07\x00\x00" + b"\x01" * 2000 + b".", "an integer of 15993 bits"),
        (b"I" + b"9" * 5000 + b"\n.", "v.pkl is refused"),
        (b"\x80\x04" + b"N" * 200_001 + b".", "more than 200000 opcodes"),
        (b"\x80\x04" + b"(" * 101 + b".", "more than 100 containers are open"),
        (b"\x80\x05\x97.", "the opcode NEXT_BUFFER"),
        (b"\x80\x02cnumpy\nx\n)R}(h\x00h\x00ub.", "no pickle, or was altered"),
        (b"\x80\x04cnumpy\n" + b"x" * 100_000 + b"\n.", r"it holds numpy\.x+$"),
    ],
)
def test_a_pickle_made_to_hang_is_refused_in_a_short_message(tmp_path, raw, message):
    (tmp_path / "v.pkl").write_bytes(raw)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("name", ["epsilon", "clip_obs", "norm_obs"])
def test_settings_that_are_trees_are_refused_in_a_short_message(tmp_path, name):
    tree = ()
    for _ in range(60):
        tree = (tree, tree)
    (tmp_path / "v.pkl").write_bytes(pickled(**{name: tree}))
    with pytest.raises(CheckpointError, match=f"for '{name}', got tuple"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


def test_a_file_too_large_for_statistics_is_not_read(tmp_path):
    with (tmp_path / "v.pkl").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match=r"v\.pkl is refused: 1099511627776 bytes, expected 16777216 at most"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


def test_statistics_of_another_size_are_refused(tmp_path):
    (tmp_path / "v.pkl").write_bytes(pickled().replace(b"\x05\x85", b"\x04\x85", 1))
    with pytest.raises(CheckpointError, match=r"array \(4,\) of f8 whose bytes are of another length"):
        read_behaviour(write_zip(tmp_path / "p.zip", ppo_state()), tmp_path / "v.pkl")


@pytest.mark.slow
def test_altered_statistics_are_read_or_refused_and_nothing_else(tmp_path):
    """A flipped byte may change a number, which nobody can see; it never ends in an error of ours or of Python's."""
    raw, rng = pickled(), np.random.default_rng(0)
    actor = write_zip(tmp_path / "p.zip", ppo_state())
    for _ in range(150):
        altered = bytearray(raw)
        for at in rng.integers(0, len(raw), rng.integers(1, 4)):
            altered[at] = rng.integers(256)
        (tmp_path / "v.pkl").write_bytes(altered[: rng.integers(1, len(raw) + 1)] if rng.random() < 0.3 else altered)
        with suppress(CheckpointError):
            read_behaviour(actor, tmp_path / "v.pkl")
