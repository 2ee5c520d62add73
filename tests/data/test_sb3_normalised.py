"""Actors trained behind VecNormalize: recognised, given their statistics, or refused; never rolled on other numbers."""

from __future__ import annotations

import numpy as np
import pytest

from actor_files import O, kept, pickled, ppo_state, sac_state, write_zip
from onestride.data.actors import read_behaviour, read_behaviours
from onestride.files import CheckpointError

RAW = np.linspace(-3, 3, O)[None]
BEFORE = RAW - 0.1  # the observation of the step before
NORMALISED = (RAW / 2).astype(np.float32)


def write(folder, state, seen, original, name="p.zip"):
    return write_zip(folder / name, state, _last_obs=kept(seen), _last_original_obs=kept(original))


@pytest.fixture
def statistics(tmp_path):
    (tmp_path / "vecnormalize.pkl").write_bytes(pickled())
    return tmp_path / "vecnormalize.pkl"


@pytest.mark.parametrize(
    ("state", "seen", "original", "message"),
    [
        (ppo_state(), NORMALISED, RAW, "it was trained on normalised observations"),
        (sac_state(), NORMALISED, RAW, "it was trained on normalised observations"),
        (
            sac_state(),
            RAW.astype("f4"),
            BEFORE.astype("f4"),
            "it may have been .* by the word raw",
        ),
        (sac_state(), RAW, RAW, "it may have been"),
    ],
    ids=["ppo", "sac", "sac of float32", "sac, the same twice"],
)
def test_one_that_is_or_may_be_normalised_takes_its_statistics(tmp_path, statistics, state, seen, original, message):
    path = write(tmp_path, state, seen, original)
    with pytest.raises(CheckpointError, match=rf"p\.zip: {message}") as caught:
        read_behaviours([path])
    assert "give its vecnormalize.pkl after it" in str(caught.value)
    (given,) = read_behaviours([path, statistics])
    assert given.identity == read_behaviour(path, statistics).identity
    (raw,) = read_behaviours([path, type(path)("raw")])
    assert raw.identity == read_behaviour(path, "raw").identity
    np.testing.assert_allclose(raw.obs_mean, 0)
    np.testing.assert_allclose(given.obs_mean, np.arange(O) - 2)
    assert np.abs(given.act(RAW) - raw.act(RAW)).max() > 0.01


def test_a_sac_that_never_was_normalised_needs_nothing(tmp_path):
    """The library keeps the observation of the step before for it, in the environment's own float64."""
    path = write(tmp_path, sac_state(), RAW, BEFORE)
    assert read_behaviour(path).identity == read_behaviour(path, "raw").identity


def test_statistics_of_rewards_alone_change_nothing(tmp_path):
    (tmp_path / "v.pkl").write_bytes(pickled(norm_obs=False))
    for state in (ppo_state(), sac_state()):
        path = write(tmp_path, state, RAW, RAW)
        (policy,) = read_behaviours([path, tmp_path / "v.pkl"])
        assert policy.identity == read_behaviour(path, "raw").identity


def test_observations_that_cannot_be_read_leave_it_open(tmp_path):
    for broken in ({":serialized:": "!"}, {":serialized:": "AAAA"}, {":serialized:": 3}, {}):
        data = {"_last_obs": broken, "_last_original_obs": {":serialized:": "AAAA", **broken}}
        with pytest.raises(CheckpointError, match="it may have been"):
            read_behaviour(write_zip(tmp_path / "p.zip", sac_state(), **data))


def test_statistics_belong_to_the_actor_before_them(tmp_path, statistics):
    normalised = write(tmp_path, ppo_state(), NORMALISED, RAW)
    plain = write_zip(tmp_path / "plain.zip", sac_state())
    policies = read_behaviours([plain, normalised, statistics, plain])
    assert [p.name for p in policies] == ["plain", "p", "plain"]
    assert [bool(p.obs_mean.any()) for p in policies] == [False, True, False]
    for given in ([statistics], [statistics, plain], [plain, statistics, statistics]):
        with pytest.raises(CheckpointError, match=r"vecnormalize\.pkl says how .* name it after the actor's"):
            read_behaviours(given)


def test_statistics_of_another_actor_are_refused(tmp_path, statistics):
    path = write_zip(tmp_path / "wide.zip", widened(ppo_state()))
    with pytest.raises(CheckpointError, match="it takes 6 numbers, and its statistics are of 5: they are another's"):
        read_behaviour(path, statistics)


def widened(state):
    name = "mlp_extractor.policy_net.0.weight"
    return state | {name: state[name].new_zeros(len(state[name]), O + 1)}
