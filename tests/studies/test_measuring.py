"""Every study measures, prints its table and writes its record."""

from __future__ import annotations

import json

import pytest

from onestride.cli import main as onestride
from onestride.studies.__main__ import main
from tiny_run import write_behaviour


def measured(out, *arguments: str) -> dict:
    main([*arguments, "--out", str(out)])
    record = json.loads(out.read_text())
    assert record["experiment"] == arguments[0]
    return record


def test_candidates_cover_behaviours(run, tmp_path):
    actors = [write_behaviour(tmp_path / f"{seed}.npz", 0.1, seed) for seed in (0, 1)]
    arguments = ("mode_coverage", "--run", str(run), "--starts", "2", "--behaviours", *actors)
    record = measured(tmp_path / "modes.json", *arguments)
    assert {"teacher", "teacher, whole noise", "dnk", "kdm"} <= set(record["rows"])
    assert record["rows"]["dnk"]["followed"]["n"] == len(record["seeds"]["training"])
    with pytest.raises(ValueError, match="names 1; candidates follow one of at least two"):
        main(["mode_coverage", "--run", str(run), "--behaviours", actors[0]])


@pytest.mark.slow
def test_ways_to_draw_candidates_earn(run, tmp_path):
    record = measured(tmp_path / "sampling.json", "candidate_sampling", "--run", str(run), "--episodes", "2")
    assert set(record["rows"]) == {"own", "lowest"}
    own = record["config"]["own"]
    assert record["config"]["lowest"] == own | {"penalty_free_below": min(own["temperatures"])} != own
    assert record["rows"]["own"]["episodes"]["mean"] == 2 * len(record["seeds"]["training"])
    with pytest.raises(ValueError, match="holds no student 'mlp'"):
        main(["candidate_sampling", "--run", str(run), "--student", "mlp"])


@pytest.mark.slow
def test_starts_and_delays_of_an_exported_arm(make_arm_policy, tmp_path):
    make_arm_policy("student").save(tmp_path / "dnk-0", {})
    onestride(["export", str(tmp_path / "dnk-0"), "--out", str(tmp_path / "arm"), "--format", "native"])
    folders = (str(tmp_path / "arm"), str(tmp_path / "dnk-0"))
    record = measured(tmp_path / "startup.json", "startup", *folders, "--rounds", "2", "--builds", "1")
    assert {name: row["starts"]["mean"] for name, row in record["rows"].items()} == {
        "kinova, native float32": 2, "kinova, policy in torch": 2, "kinova, native float32, first on a machine": 1,
    }  # fmt: skip
    assert all(row["total_s"]["mean"] > row["library_s"]["mean"] > 0 for row in record["rows"].values())
    record = measured(tmp_path / "delay.json", "decision_delay", folders[0], "--scenes", "1")
    assert list(record["rows"])[:2] == ["5 ms, beside", "5 ms, within"]
    assert len(record["rows"]) == 16


@pytest.mark.slow
def test_trainings_are_timed(tmp_path):
    arguments = ("training_speed", "--preset", "hopper-tiny", "--rounds", "1", "--steps", "2", "--busy", "1")
    record = measured(tmp_path / "speed.json", *arguments)
    assert len(record["rows"]) == 3 + 4
    assert all(row["windows_per_s"]["n"] == 1 for row in record["rows"].values())
    assert "gain" in record["rows"]["student, 1 busy, passive"]
