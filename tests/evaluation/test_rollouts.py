"""Evaluations: every record kept, killed ones go on, others' are refused."""

import json
import os
import re

import numpy as np
import pytest

from onestride.evaluation import rollouts
from onestride.evaluation.rollouts import Contender, add_records, candidate_clouds, evaluate, read_records
from onestride.files import CheckpointError
from onestride.tasks.kinova.demonstrations import evaluation_scenes


@pytest.fixture(scope="module")
def scenes():
    return evaluation_scenes(3, seed=5)


@pytest.fixture
def contenders(make_arm_policy):
    return [Contender("teacher", 0, make_arm_policy("teacher")), Contender("dnk", 0, make_arm_policy("student"))]


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch):
    monkeypatch.setattr(rollouts, "WARM_UP", 1)


def run(contenders, scenes, folder, **kwargs):
    return evaluate(contenders, scenes, folder, **{"timeout": 0.2, "real_clock": False, "filmed": 0, **kwargs})


def test_every_contender_meets_every_scene_in_turns(contenders, scenes, tmp_path):
    records = run(contenders, scenes, tmp_path)
    assert [(r["row"], r["scene"]) for r in records] == [(row, i) for i in range(3) for row in ("teacher", "dnk")]
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k != "digest"} for line in lines] == json.loads(json.dumps(records))
    assert {r["nfe"] for r in records} == {1, 4}
    assert all(r["outcome"] in ("timeout", "collision", "arrived") for r in records)
    assert (tmp_path / "motion.safetensors").exists()


def test_a_killed_evaluation_goes_on_and_a_cut_line_is_run_again(contenders, scenes, tmp_path, monkeypatch):
    real, calls = rollouts.run_trial, []

    def killed(policy, task, scene, number, **kwargs):
        calls.append(number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(policy, task, scene, number, **kwargs)

    monkeypatch.setattr(rollouts, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        run(contenders, scenes, tmp_path)
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text()[:-20])  # the kill came in the middle of a line
    calls.clear()
    calls.extend([0] * 10)
    records = run(contenders, scenes, tmp_path)
    assert len(calls) - 10 == 4  # two whole records were kept
    assert sorted((r["row"], r["scene"]) for r in records) == sorted(
        (r, i) for r in ("teacher", "dnk") for i in range(3)
    )


def test_another_evaluations_folder_is_refused(contenders, scenes, tmp_path):
    run(contenders, scenes, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="trials of other scenes or under other settings"):
        run(contenders, scenes[:2], tmp_path)
    with pytest.raises(CheckpointError, match="trials of other scenes or under other settings"):
        run(contenders, scenes, tmp_path, timeout=0.3)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_was_asked_for_and_never_begun_binds_nobody(contenders, scenes, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rollouts, "run_trial", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(contenders, scenes, tmp_path)
    assert len(run(contenders, scenes[:2], tmp_path)) == 4


def test_a_planner_trained_later_joins(contenders, scenes, tmp_path, make_arm_policy):
    """What quickstart advises ended in a refusal."""
    first = run(contenders, scenes, tmp_path)
    joined = [*contenders, Contender("kdm", 0, make_arm_policy("student", operator="kdm"))]
    records = run(joined, scenes, tmp_path)
    assert records[:6] == json.loads(json.dumps(first))
    assert [(r["row"], r["scene"]) for r in records[6:]] == [("kdm", i) for i in range(3)]
    assert len(run(contenders, scenes, tmp_path)) == 9  # and stays, whoever is asked for


def test_a_planner_trained_anew_does_not(contenders, scenes, tmp_path, make_arm_policy):
    run(contenders, scenes, tmp_path)
    anew = make_arm_policy("student")
    anew.config["training"] = {"id": "another"}
    with pytest.raises(CheckpointError, match="holds trials of dnk-0 as it was before it was trained anew"):
        run([contenders[0], Contender("dnk", 0, anew)], scenes, tmp_path)


def test_reading_records_writes_nothing_and_adding_drops_a_cut_line(tmp_path):
    """A kill while a finished evaluation was looked at left nothing of it."""
    path = tmp_path / "episodes.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    os.utime(path, (0, 0))
    assert read_records(path) == [{"a": 1}, {"a": 2}]
    assert path.stat().st_mtime == 0
    add_records(path, [{"a": 3}, {"a": 4}])
    assert read_records(path) == [{"a": n} for n in (1, 2, 3, 4)]
    add_records(tmp_path / "new.jsonl", [{"a": 1}])
    assert read_records(tmp_path / "new.jsonl") == [{"a": 1}]
    with pytest.raises(OSError, match=r"could not write .*what was there is kept"):
        add_records(tmp_path / "nowhere" / "x.jsonl", [{"a": 1}])


def test_every_flipped_bit_of_a_record_is_refused_by_file_and_line(tmp_path):
    path = tmp_path / "episodes.jsonl"
    records = [{"row": "dnk", "seed": 0, "scene": n, "ms": [0.25, n / 3]} for n in range(3)]
    add_records(path, records)
    whole = path.read_bytes()
    second = range(whole.index(b"\n") + 1, whole.rindex(b"\n", 0, -1) + 1)
    for at in second:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        if b'"digest": "' in path.read_bytes().split(b"\n")[1]:
            with pytest.raises(CheckpointError, match=re.escape(f"{path}, line ")):
                read_records(path)
    path.write_bytes(whole[:-1] + b"*")  # no kill leaves this
    with pytest.raises(CheckpointError, match="line 3 is not JSON"):
        read_records(path)
    for left in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):  # but any of these
        path.write_bytes(whole[:left])
        assert read_records(path) == records[:2]


def test_records_from_before_there_were_digests_are_read(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert read_records(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl, line 2 is not JSON"):
        read_records(path)


def test_candidate_clouds_are_the_policies_own(contenders, scenes, tmp_path):
    records = candidate_clouds(contenders, scenes, [1], tmp_path)
    assert len(records) == 6
    assert all(r["candidate_spread_mm"] > 0 for r in records)
    # The teacher is no way from itself; the untrained student's candidates are somewhere else.
    assert {r["teacher_distance_mm"] for r in records if r["row"] == "teacher"} == {0.0}
    assert all(r["teacher_distance_mm"] > 0 for r in records if r["row"] == "dnk")
    sided = [r for r in records if "sides" in r]
    assert {r["scene"] for r in sided} == {1}
    assert all(np.isclose(sum(r["sides"]), 1.0) for r in sided)
    from onestride.tensors import load_tensors

    tensors, header = load_tensors(tmp_path / "candidates.safetensors")
    assert json.loads(header["scenes"]) == [1]
    assert tensors["paths.dnk"].shape == (1, 8, 32, 3)
    # Every candidate starts where the arm is.
    np.testing.assert_allclose(tensors["paths.teacher"][0, :, 0], np.tile(scenes[1].start, (8, 1)), atol=1e-4)
