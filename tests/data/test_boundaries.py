"""Where episodes end: marks held against the numbers, in every format that has flat arrays."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from onestride.data.adapters import read_episodes

LENGTH, COUNT = 30, 6


@pytest.fixture
def flat():
    """Six episodes of 30 steps, cut off; every observation follows from the one before."""
    rng = np.random.default_rng(0)
    n = LENGTH * COUNT
    observations = rng.normal(3.0, 2.0, size=(n, 4)).astype(np.float32)
    ends = np.arange(n) % LENGTH == LENGTH - 1
    following = np.roll(observations, -1, 0)
    following[ends] = rng.normal(3.0, 2.0, size=(COUNT, 4))
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        "rewards": rng.normal(1.0, 0.1, n).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": ends,
        "next_observations": following,
    }


@pytest.fixture(params=["npz", "hdf5"])
def read(request, tmp_path):
    def made(flat, **options):
        path = tmp_path / f"set.{request.param}"
        if request.param == "npz":
            np.savez(path, **flat)
        else:
            with h5py.File(path, "w") as file:
                for name, array in flat.items():
                    file[name] = array
        notes: list[str] = []
        return list(read_episodes(path, notes, **options)), notes

    return made


def lengths(episodes):
    return [len(e) for e in episodes]


def test_true_marks_are_taken_as_they_are(flat, read):
    episodes, notes = read(flat)
    assert (lengths(episodes), notes) == ([LENGTH] * COUNT, [])
    assert not any(e.terminated for e in episodes)


@pytest.mark.parametrize("name", ["truncations", "truncated", "truncation", "next.truncated", "dones", "done"])
def test_cut_off_steps_by_another_name_are_read_as_what_they_are(flat, read, name):
    flat[name] = flat.pop("timeouts")
    del flat["next_observations"]
    episodes, notes = read(flat)
    assert lengths(episodes) == [LENGTH - 1] * COUNT
    assert notes == [f"cut-off steps are those marked in {name}: {COUNT} of them"]


def test_names_that_disagree_are_refused(flat, read):
    flat["truncations"] = ~flat["timeouts"]
    with pytest.raises(ValueError, match="has both timeouts and truncations, which mark other steps"):
        read(flat)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_marks_that_are_none_are_refused(flat, read, value):
    flat["timeouts"] = np.where(flat["timeouts"], value, 0.0)
    with pytest.raises(ValueError, match="timeouts"):
        read(flat)


def test_resets_that_no_mark_shows(flat, read):
    flat["timeouts"][LENGTH - 1 :: 2 * LENGTH] = False
    said = r"3 resets that no mark shows.*the first after row 29; cut episodes there.*--mend"
    with pytest.raises(ValueError, match=said):
        read(flat)
    episodes, notes = read(flat, mend=True)
    assert lengths(episodes) == [LENGTH] * COUNT
    assert notes == ["3 resets that no mark shows, seen in next_observations: cut off there"]


def test_rows_of_autoreset(flat, read):
    rows = {name: [] for name in flat}
    for k in range(COUNT):
        part = slice(k * LENGTH, (k + 1) * LENGTH)
        for name, array in flat.items():
            rows[name].append(array[part])
        if k < COUNT - 1:
            last, first = flat["next_observations"][part][-1], flat["observations"][(k + 1) * LENGTH]
            between = {"observations": last, "next_observations": first, "actions": np.zeros(2), "rewards": 0.0}
            for name in flat:
                rows[name].append(np.asarray(between.get(name, False))[None])
    made = {name: np.concatenate(parts).astype(flat[name].dtype) for name, parts in rows.items()}
    with pytest.raises(ValueError, match=r"5 rows after an end are an environment's own resets \(autoreset\)"):
        read(made)
    episodes, notes = read(made, mend=True)
    assert lengths(episodes) == [LENGTH] * COUNT
    assert notes == ["5 rows after an end are an environment's own resets (autoreset): left out"]


def test_a_recording_that_goes_on_after_a_cut_is_none_of_these(flat, read):
    """One long trajectory, cut every 30 steps: the row after a cut is a step like any other."""
    flat["next_observations"][:-1] = flat["observations"][1:]
    episodes, notes = read(flat)
    assert (lengths(episodes), notes) == ([LENGTH] * COUNT, [])


def test_next_observations_of_something_else_are_refused(flat, read):
    flat["next_observations"] = (flat["next_observations"] - 3) / 2  # normalised
    with pytest.raises(ValueError, match="next_observations are not what follows in 174 of 174 steps"):
        read(flat)


@pytest.mark.parametrize("also_timeouts", [False, True])
def test_where_all_terminate_at_their_limit_the_mark_says_no_more_than_that(flat, read, also_timeouts):
    flat["terminals"] = flat["timeouts"].copy()
    if not also_timeouts:
        del flat["timeouts"]
    episodes, notes = read(flat)
    assert lengths(episodes) == [LENGTH] * COUNT
    assert [(e.terminated, e.truncated) for e in episodes] == [(False, True)] * COUNT
    assert notes == [
        f"all {COUNT} episodes are marked as terminated after the same {LENGTH} steps: a recorder's mark of any end, "
        "so all are taken as cut off"
    ]


def test_falls_stay_falls(flat, read):
    flat["terminals"] = flat["timeouts"] & (np.arange(len(flat["timeouts"])) < 3 * LENGTH)
    flat["timeouts"] = flat["timeouts"] & ~flat["terminals"]
    episodes, notes = read(flat)
    assert [e.terminated for e in episodes] == [True] * 3 + [False] * 3
    assert notes == []


def test_rows_that_were_allocated_and_never_filled_are_left_out(flat, read):
    longer = {
        name: np.concatenate((array, np.zeros((40, *array.shape[1:]), array.dtype))) for name, array in flat.items()
    }
    episodes, notes = read(longer)
    assert lengths(episodes) == [LENGTH] * COUNT
    assert notes == ["40 rows at the end are 0 throughout (allocated and never filled): left out"]
    with pytest.raises(ValueError, match="every row is 0"):
        read({name: np.zeros_like(array) for name, array in flat.items()})


def test_padding_is_said(flat, read):
    del flat["next_observations"]
    for name in ("observations", "actions", "rewards"):
        flat[name][LENGTH - 15 : LENGTH] = flat[name][LENGTH - 15]
    assert read(flat)[1] == ["1 of 6 episodes end with 10 or more identical rows; is that padding? Then leave it out"]


def test_normalised_observations_are_said(flat, read):
    many = {name: np.concatenate([array] * 4) for name, array in flat.items() if name != "next_observations"}
    many["observations"] = (many["observations"] - many["observations"].mean(0)) / many["observations"].std(0)
    (note,) = read(many)[1]
    assert note.startswith("observations look normalised")


def test_copies_of_the_last_row_with_its_mark_are_left_out(flat, read):
    padded = {name: np.concatenate((array, np.repeat(array[-1:], 20, 0))) for name, array in flat.items()}
    episodes, notes = read(padded)
    assert lengths(episodes) == [LENGTH] * COUNT
    assert notes == ["the last 20 rows are copies of the one before them, its mark included (padding): left out"]
