"""Flat arrays: cut where the marks say, nothing lost that can be kept, and refused by key and row."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onestride.data.arrays import BOUND_TOLERANCE, episodes_from_arrays
from onestride.data.episode import Episode

LENGTHS = (4, 1, 7, 2)
TERMINATED = (True, True, False, False)


@pytest.fixture
def whole():
    """Episodes as they happened, their last observation included; no number occurs twice."""
    rng = np.random.default_rng(0)
    return [
        Episode(
            rng.normal(size=(steps + 1, 3)).astype(np.float32),
            rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
            rng.normal(size=steps).astype(np.float32),
            terminated,
            not terminated,
        )
        for steps, terminated in zip(LENGTHS, TERMINATED, strict=True)
    ]


def flatten(episodes):
    """What a recorder of one row per step keeps of them."""
    ends = np.concatenate([np.arange(len(e)) == len(e) - 1 for e in episodes])
    terminated = np.concatenate([np.full(len(e), e.terminated) for e in episodes])
    return {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminals": ends & terminated,
        "timeouts": ends & ~terminated,
        "next_observations": np.concatenate([e.observations[1:] for e in episodes]),
    }


def same(found, expected):
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
            assert getattr(x, name).dtype == np.float32
        assert (x.terminated, x.truncated) == (y.terminated, y.truncated)


def without_next(episodes):
    """What can still be said of episodes whose last observation nobody kept."""
    said = []
    for e in episodes:
        if e.terminated:
            observations = np.concatenate((e.observations[:-1], e.observations[-2:-1]))
            said.append(Episode(observations, e.actions, e.rewards, True))
        elif len(e) > 1:
            said.append(Episode(e.observations[:-1], e.actions[:-1], e.rewards[:-1], False, True))
    return said


def test_with_next_observations_everything_comes_back(whole):
    same(list(episodes_from_arrays(**flatten(whole))), whole)


def test_without_next_observations_every_reward_of_a_terminated_episode_is_kept(whole):
    flat = flatten(whole)
    del flat["next_observations"]
    found = list(episodes_from_arrays(**flat))
    same(found, without_next(whole))
    assert [len(e) for e in found] == [4, 1, 6, 1]
    for e, original in zip(found, whole, strict=True):
        assert e.truncated or e.rewards.sum() == original.rewards.sum()


@pytest.mark.parametrize("next_known", [True, False])
def test_steps_after_the_last_mark_are_a_truncated_episode(whole, next_known):
    flat = flatten(whole)
    flat["timeouts"][-1] = False
    if next_known:
        same(list(episodes_from_arrays(**flat)), whole)
    else:
        del flat["next_observations"]
        same(list(episodes_from_arrays(**flat)), without_next(whole))


@pytest.mark.parametrize("marked", [True, False])
def test_a_single_truncated_step_says_nothing_without_its_next_observation(whole, marked):
    flat = flatten([*whole, Episode(np.ones((2, 3)), np.zeros((1, 2)), np.ones(1), False, True)])
    flat["timeouts"][-1] = marked
    assert len(list(episodes_from_arrays(**flat))) == 5
    del flat["next_observations"]
    same(list(episodes_from_arrays(**flat)), without_next(whole))


def test_terminated_and_timed_out_at_once_are_both_kept(whole):
    flat = flatten(whole)
    flat["timeouts"][3] = True
    del flat["next_observations"]
    first = next(episodes_from_arrays(**flat))
    assert (first.terminated, first.truncated, len(first)) == (True, True, 4)


@pytest.mark.parametrize(
    ("terminals", "expected"),
    [
        ((), [(5, False), (5, False), (2, False)]),
        ((4,), [(5, True), (5, False), (2, False)]),  # the terminal is on the last step allowed
        ((2,), [(3, True), (5, False), (4, False)]),  # counted again from there
        ((2, 3), [(3, True), (1, True), (5, False), (3, False)]),
        ((9, 11), [(5, False), (5, True), (2, True)]),
    ],
)
def test_without_timeouts_the_number_of_steps_cuts(terminals, expected):
    numbers = np.arange(12.0)
    found = list(
        episodes_from_arrays(
            numbers[:, None],
            numbers[:, None],
            numbers,
            np.isin(numbers, terminals),
            next_observations=numbers[:, None] + 1,
            max_steps=5,
        )
    )
    assert [(len(e), e.terminated) for e in found] == expected
    assert all(e.truncated != e.terminated for e in found)
    np.testing.assert_array_equal(np.concatenate([e.rewards for e in found]), numbers)
    assert all(e.observations[-1, 0] == e.rewards[-1] + 1 for e in found)


def test_by_default_1000_steps_cut():
    found = list(episodes_from_arrays(np.ones((2500, 1)), np.zeros((2500, 1)), np.zeros(2500), np.zeros(2500)))
    assert [len(e) for e in found] == [999, 999, 499]


def test_columns_flags_and_integers_of_any_kind_will_do(whole):
    flat = flatten(whole)
    flat["rewards"] = flat["rewards"].astype(np.float64)[:, None]
    flat["terminals"] = flat["terminals"].astype(np.uint8)[:, None]
    flat["timeouts"] = flat["timeouts"].astype(np.float32).tolist()
    same(list(episodes_from_arrays(**flat)), whole)


def test_an_episode_is_no_view_of_the_whole(whole):
    flat = flatten(whole)
    for value in flat.values():
        value.flags.writeable = False
    for e in episodes_from_arrays(**flat):
        assert e.actions.flags.owndata
        assert e.actions.flags.writeable
        assert e.rewards.flags.owndata


# ---- what is refused, when the function is called ----


def refused(flat, message, **options):
    with pytest.raises(ValueError, match=message):
        episodes_from_arrays(**flat, **options, source="here")


@pytest.mark.parametrize("key", ["actions", "rewards", "terminals", "timeouts", "next_observations"])
def test_lengths_must_agree(whole, key):
    flat = flatten(whole)
    flat[key] = flat[key][:-1]
    refused(flat, rf"here: lengths disagree: .*observations has 14.*{key} has 13")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("key", "index", "at"),
    [
        ("observations", (7, 2), "observations[7, 2]"),
        ("actions", (13, 0), "actions[13, 0]"),
        ("rewards", (0,), "rewards[0]"),
        ("next_observations", (5, 1), "next_observations[5, 1]"),
    ],
)
def test_a_number_that_is_not_finite_is_named(whole, key, index, at, value):
    flat = flatten(whole)
    flat[key][index] = value
    refused(flat, re.escape(f"here: {at} is not finite"))


def test_a_number_too_large_for_float32_is_not_finite(whole):
    flat = flatten(whole)
    flat["rewards"] = flat["rewards"].astype(np.float64)
    flat["rewards"][6] = 1e200
    refused(flat, r"rewards\[6\] is not finite")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "observations",
            np.zeros((14, 8, 8, 3)),
            r"observations has shape \(14, 8, 8, 3\), expected \(steps, columns\)",
        ),
        ("actions", np.zeros(14, int), r"actions has shape \(14,\), expected \(steps, columns\)"),
        ("rewards", np.zeros((14, 2)), r"rewards has shape \(14, 2\), expected \(steps,\)"),
        ("actions", np.full((14, 2), "left"), r"actions holds <U4, expected numbers"),
        ("observations", np.full((14, 2), None), r"observations holds object, expected numbers"),
        ("next_observations", np.zeros((14, 2)), r"next_observations has shape \(14, 2\), .*\(14, 3\)"),
    ],
)
def test_arrays_of_another_kind(whole, key, value, message):
    refused(flatten(whole) | {key: value}, f"here: {message}")


@pytest.mark.parametrize("key", ["terminals", "timeouts"])
def test_a_mark_is_0_or_1(whole, key):
    flat = flatten(whole)
    flat[key] = flat[key].astype(float)
    flat[key][9] = 0.5
    refused(flat, rf"here: {key}\[9\] is 0\.5, expected 0 or 1")


def test_no_step(whole):
    refused({key: value[:0] for key, value in flatten(whole).items()}, "here: no step in it")


def test_no_step_allowed(whole):
    refused(flatten(whole), "max_steps is 0, expected 1 or more", max_steps=0)


@pytest.mark.parametrize("value", [1.2, -1.2])
@pytest.mark.parametrize(("low", "high"), [(-1, 1), ((-2, -1), (2, 1)), ((-2, -1), 1)])
def test_an_action_out_of_bounds_is_named(whole, value, low, high):
    flat = flatten(whole)
    flat["actions"][8, 1] = value
    refused(flat, rf"here: actions\[8, 1\] is {value}, outside \[-1, 1\]; give the task's own", low=low, high=high)


def test_bounds_one_by_one(whole):
    flat = flatten(whole)
    flat["actions"][8, 1] = 3
    refused(flat, r"is 3, outside \[-inf, 1\]", high=1)
    assert len(list(episodes_from_arrays(**flat, low=-1))) == 4
    assert len(list(episodes_from_arrays(**flat))) == 4


def test_an_action_clipped_in_other_arithmetic_is_at_its_bound(whole):
    flat = flatten(whole)
    flat["actions"][8, 1] = 1 + BOUND_TOLERANCE / 2
    assert len(list(episodes_from_arrays(**flat, low=-1, high=1))) == 4
    flat["actions"][8, 1] = 1 + BOUND_TOLERANCE * 2
    refused(flat, "outside", low=-1, high=1)


def test_bounds_of_another_task(whole):
    refused(flatten(whole), r"low has shape \(3,\), expected one number or .* 2 columns", low=np.zeros(3), high=1)
