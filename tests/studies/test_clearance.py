"""The study of clearance: the same counts by one process, by two, and after a stop; a policy beside them."""

import json

import pytest

from onestride.studies import clearance

TIMES = ("filter_ms_p50", "filter_ms_p99")


def counts(record):
    return {name: {k: v for k, v in row.items() if k not in TIMES} for name, row in record["rows"].items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    kept = tmp_path_factory.mktemp("clearance") / "scenes.jsonl"
    return clearance.measure(arms=3, flights=1, kept=kept), kept.read_text()


@pytest.mark.slow
def test_every_scene_counts_once_in_the_row_of_its_plan(whole):
    record, _ = whole
    episodes = {name: row["episodes"]["mean"] for name, row in record["rows"].items() if "episodes" in row}
    rows = ("kinova, random", "kinova, jerky", "kinova, obstacle", "quadrotor, random")
    assert episodes == {f"{row}, obstacles stand": 1.0 for row in rows}
    assert clearance.group_of("kinova", 4) == "kinova, random, obstacles move"
    assert all(row["certificates"]["mean"] > 0 for row in record["rows"].values() if "episodes" in row)
    assert all(name in record["rows"]["kinova, ranking of 64"] for name in TIMES)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_call_goes_on_and_two_processes_count_the_same(whole, tmp_path, workers):
    record, lines = whole
    kept = tmp_path / "scenes.jsonl"
    kept.write_text("\n".join(lines.splitlines()[:2]) + "\n" + lines.splitlines()[2][:40])
    again = clearance.measure(arms=3, flights=1, workers=workers, kept=kept)
    assert counts(again) == counts(record)
    assert kept.read_text().splitlines()[:2] == lines.splitlines()[:2]
    assert len(kept.read_text().splitlines()) == 4


def test_scenes_of_another_margin_are_not_counted(whole, tmp_path):
    record, lines = whole
    made = [json.loads(line) for line in lines.splitlines()]
    assert {line["reference"] for line in made if line["row"].startswith("quadrotor")} == {
        f"margin 0.005 m, obstacles at 0.2 m/s, tracking errors 54 mm, by {clearance.kernel()}"
    }
    kept = tmp_path / "scenes.jsonl"
    kept.write_text(lines)
    fewer = clearance.measure(arms=1, flights=1, kept=kept)
    assert sum(row["episodes"]["mean"] for row in fewer["rows"].values() if "episodes" in row) == 2
    assert counts(fewer)["kinova, random, obstacles stand"] == counts(record)["kinova, random, obstacles stand"]


def test_an_episode_that_ends_before_its_first_command_counts(whole):
    """In this scene an obstacle moves into the arm at once."""
    with clearance.driver({"kinova": 32}, 0) as drive:
        made = drive(("kinova", 31))
    assert (made["certificates"], made["took_us"]) == (0, [])


def test_no_scene_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        clearance.measure(arms=0)
