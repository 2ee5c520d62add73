"""Somebody's episodes: what cannot be learnt from is said when they come, not hours later."""

import errno
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from minari.dataset.minari_storage import MinariStorage

from onestride import experiment
from onestride.data.episode import Episode
from onestride.data.minari import METADATA, read_metadata, write_dataset
from onestride.runs import collecting, presets, seeds
from onestride.runs.ingest import ImportReport, import_dataset
from onestride.runs.run import check_preset_matches_task, data_identity
from onestride.tasks import TASKS

CHEETAH, HOPPER = TASKS["halfcheetah-v5"](), TASKS["hopper-v5"]()
LENGTHS = (40, 33, 5)


def episodes_of(task, lengths=LENGTHS, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return [
        replace(
            Episode(
                rng.normal(size=(n + 1, task.control.observation_dim)).astype(np.float32),
                rng.uniform(-1, 1, size=(n, task.control.action_dim)).astype(np.float32),
                rng.normal(size=n).astype(np.float32),
                terminated=i == 0,
                truncated=i > 0,
            ),
            **changes,
        )
        for i, n in enumerate(lengths)
    ]


def written(folder, task, episodes, **metadata):
    space = Box(-1, 1, (task.control.action_dim,), np.float32)
    write_dataset(folder, episodes, len(episodes), metadata, space)
    return folder


@pytest.fixture
def hopper(tmp_path):
    return written(tmp_path / "random-v0", HOPPER, episodes_of(HOPPER))


def refused(run, task, path, message, kind: type[Exception] = ValueError):
    with pytest.raises(kind, match=message):
        import_dataset(run, task, path)
    assert not (run / "data").exists()
    assert not [path for path in run.glob(".*") if not path.name.endswith(".lock")]


def test_what_came_is_said(hopper, tmp_path):
    made = import_dataset(tmp_path / "run", HOPPER, hopper)
    note = "1 of 3 episodes are shorter than a plan (32 steps): the critic alone learns from them"
    assert made == ImportReport(episodes=3, steps=78, terminated=1, notes=(note,))


def test_observations_outside_of_the_environments_space_are_said_by_column(tmp_path):
    pendulum = TASKS["gym:Pendulum-v1"]()  # cos, sin, angular velocity up to 8
    episodes = [replace(e, observations=np.clip(e.observations, -1, 1)) for e in episodes_of(pendulum)]
    made = import_dataset(tmp_path / "a", pendulum, written(tmp_path / "mine", pendulum, episodes))
    assert not any("Pendulum" in note for note in made.notes)
    episodes[1].observations[3:5, 2] = 90.0, -2.0  # degrees
    made = import_dataset(tmp_path / "b", pendulum, written(tmp_path / "degrees", pendulum, episodes))
    (note,) = (note for note in made.notes if "Pendulum" in note)
    assert note.startswith("observation[2] goes from -2 to 90, and Pendulum-v1 gives -8 to 8")


def test_another_datas_models_are_not_this_ones(hopper, tmp_path):
    """Imported again under the same name, after a mistake in it was mended, it was taken for what it had been."""
    import_dataset(tmp_path / "a", HOPPER, hopper)
    import_dataset(tmp_path / "same", HOPPER, hopper)
    shutil.rmtree(hopper)
    mended = [replace(e, actions=-e.actions) for e in episodes_of(HOPPER)]
    import_dataset(tmp_path / "b", HOPPER, written(hopper, HOPPER, mended))
    shutil.rmtree(hopper)
    others = [replace(e, terminated=False, truncated=True) for e in episodes_of(HOPPER)]
    import_dataset(tmp_path / "c", HOPPER, written(hopper, HOPPER, others))
    identities = [data_identity(tmp_path / name) for name in ("a", "same", "b", "c")]
    assert identities[0] == identities[1]
    assert len({i["content"] for i in identities}) == 3
    assert len({i["source"] for i in identities}) == 1


@pytest.mark.parametrize(
    ("recorded", "advice"), [("Walker2d-v4", "give --task walker2d-v4"), ("Ant-v5", "give --task gym:Ant-v5")]
)
def test_another_environment_is_refused_where_the_dataset_names_its_own(tmp_path, recorded, advice):
    """HalfCheetah and Walker2d have as many numbers."""
    spec = json.dumps({"id": recorded, "entry_point": "x"})
    path = written(tmp_path / "d", CHEETAH, episodes_of(CHEETAH), env_spec=spec)
    message = f"was recorded in {recorded}, and task 'halfcheetah-v5' is of HalfCheetah-v5; {advice}"
    refused(tmp_path / "run", CHEETAH, path, message)


@pytest.mark.parametrize("spec", [json.dumps({"id": "HalfCheetah-v5"}), "no JSON", json.dumps([1]), 7])
def test_what_says_nothing_or_the_same_is_taken(tmp_path, spec):
    path = written(tmp_path / "d", CHEETAH, episodes_of(CHEETAH), env_spec=spec)
    import_dataset(tmp_path / "run", CHEETAH, path)
    assert ("environment" in read_metadata(tmp_path / "run" / "data")) == ("HalfCheetah" in str(spec))


def test_episodes_too_short_to_learn_from_are_refused(tmp_path):
    path = written(tmp_path / "d", HOPPER, episodes_of(HOPPER, (31, 4)))
    refused(tmp_path / "run", HOPPER, path, "the longest of 2 episodes has 31 steps, and a plan .* has 32")


def test_no_rewards_are_refused_where_plans_are_ranked_by_them(tmp_path):
    still = [replace(e, rewards=np.zeros(len(e), np.float32)) for e in episodes_of(HOPPER)]
    path = written(tmp_path / "d", HOPPER, still)
    refused(tmp_path / "run", HOPPER, path, "has no rewards .* as next.reward")


def test_a_run_that_cannot_be_made_is_said_first(hopper, tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "run", HOPPER, tmp_path / "nothing", "cannot be written", OSError)


def test_the_same_again_is_left_alone_and_others_of_that_name_are_not_taken_for_it(hopper, tmp_path):
    made = import_dataset(tmp_path / "run", HOPPER, hopper)
    metadata = tmp_path / "run" / "data" / METADATA
    before = metadata.read_bytes(), metadata.stat().st_mtime_ns
    again = import_dataset(tmp_path / "run", HOPPER, hopper)
    assert again == replace(made, notes=(*made.notes, "they were there already"))
    shutil.rmtree(hopper)
    written(hopper, HOPPER, episodes_of(HOPPER, seed=1))
    with pytest.raises(FileExistsError, match="holds other episodes, also named random-v0"):
        import_dataset(tmp_path / "run", HOPPER, hopper)
    with pytest.raises(FileExistsError, match="is there already; choose another --run"):
        import_dataset(tmp_path / "run", HOPPER, written(tmp_path / "other-v0", HOPPER, episodes_of(HOPPER)))
    assert (metadata.read_bytes(), metadata.stat().st_mtime_ns) == before


def test_no_room_is_said_before_any_is_written(hopper, tmp_path, monkeypatch):
    """DeferredInterrupt before the work, by what the numbers take."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 0))
    refused(tmp_path / "run", HOPPER, hopper, r"takes .* MB, and 0\.0 MB are free there", OSError)


def test_a_disk_that_fills_meanwhile_is_said_in_a_line(hopper, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MinariStorage, "new", full)
    refused(tmp_path / "run", HOPPER, hopper, "could not write .*: No space left on device; nothing", OSError)


# ---- Minari datasets that are not whole, or of other spaces ----


def altered(folder, change):
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["episode_1"].pop("rewards"), "episode 1 of 3: it cannot be read .* not here whole"),
        (lambda file: file.pop("episode_2"), "says 3 episodes, data/main_data.hdf5 holds 2"),
        (lambda file: file["episode_0"].pop("terminations"), "episode 0 of 3: it cannot be read .* not here whole"),
    ],
)
def test_what_is_missing_is_named(hopper, tmp_path, change, message):
    altered(hopper, change)
    refused(tmp_path / "run", HOPPER, hopper, message)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"total_episodes": "three"}'])
def test_metadata_without_a_count_is_refused(hopper, tmp_path, text):
    (hopper / METADATA).write_text(text)
    refused(tmp_path / "run", HOPPER, hopper, "does not say how many episodes there are")


def test_metadata_that_is_cut_is_named(hopper, tmp_path):
    (hopper / METADATA).write_text((hopper / METADATA).read_text()[:20])
    refused(tmp_path / "run", HOPPER, hopper, r"metadata\.json is not JSON")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("actions", np.zeros(40, int), r"actions are int64 \(40,\), expected an array of numbers \(steps, columns\)"),
        ("observations", np.zeros((41, 11, 2, 2), np.float32), r"observations are float32 \(41, 11, 2, 2\), expected"),
        ("rewards", np.zeros((40, 1)), r"rewards are float64 \(40, 1\), expected an array of numbers \(steps,\)"),
    ],
)
def test_other_spaces_are_refused_by_name(hopper, tmp_path, name, values, said):
    def change(file):
        file["episode_0"].pop(name)
        file["episode_0"][name] = values

    altered(hopper, change)
    refused(tmp_path / "run", HOPPER, hopper, f"episode 0: {said}")


# ---- what comes after ----


def test_a_preset_of_another_body_is_refused(hopper, tmp_path):
    import_dataset(tmp_path / "run", HOPPER, hopper)
    with pytest.raises(ValueError, match=r"is of task 'hopper-v5', and preset 'demo' of 'kinova'; give --preset"):
        check_preset_matches_task(tmp_path / "run", "demo", "kinova")
    check_preset_matches_task(tmp_path / "run", "hopper-tiny", "hopper-v5")
    check_preset_matches_task(tmp_path / "nothing", "demo", "kinova")


def test_imported_data_is_taken_as_it_is(hopper, tmp_path, monkeypatch):
    """Also the arm's: its preset's own episodes were asked for, in a folder that holds somebody's."""
    import_dataset(tmp_path / "run", HOPPER, hopper)

    class ReachedError(Exception):
        pass

    def reached(*_):
        raise ReachedError

    monkeypatch.setattr(collecting, "plan_stage", lambda *_: pytest.fail("it plans"))
    monkeypatch.setattr(seeds, "run_stage", reached)
    with pytest.raises(ReachedError):
        experiment.make(tmp_path / "run", presets.load("tiny"), TASKS["kinova"](), (), "cpu")


def test_episodes_longer_than_their_environment_has_are_refused(tmp_path):
    """Without a mark of their ends: Reacher's are of 50 steps."""
    rng, n = np.random.default_rng(0), 120
    arrays = {"observations": rng.normal(2.0, 3.0, (n, 10)), "actions": rng.uniform(-1, 1, (n, 2))}
    np.savez(tmp_path / "run_on.npz", **arrays, rewards=rng.normal(size=n), terminals=np.zeros(n))
    refused(
        tmp_path / "run", TASKS["gym:Reacher-v5"](), tmp_path / "run_on.npz", "Reacher-v5 ends one after 50: where it"
    )
