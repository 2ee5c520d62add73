"""Planners trained later, trained anew or no longer asked for: what an evaluation keeps and what it makes again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from onestride.evaluation import evaluate as module
from onestride.evaluation import rollouts
from onestride.evaluation.evaluate import evaluate
from onestride.evaluation.records import open_manifest, read_records
from onestride.files import CheckpointError
from onestride.seals import seal
from onestride.tensors import load_tensors
from tiny_run import CONFIG, ROWS, copy_without, entry, keyed, records_of, words


def test_an_evaluation_under_other_settings_is_refused(again):
    with pytest.raises(CheckpointError, match="under other settings"):
        evaluate(again, replace(CONFIG, states=CONFIG.states + 1), "onestride evaluate")


def claim(folder, there, episodes, width=2, together=(), **planners):
    wanted = {"settings": {"width": width}, "episodes": episodes, "planners": planners}
    open_manifest(folder, wanted, there, width, together)


@pytest.mark.parametrize(
    ("episodes", "width"), [(1, 2), (7, 3)], ids=["fewer than there are", "a batch would be another one"]
)
def test_episodes_that_cannot_join_are_refused(tmp_path, episodes, width):
    claim(tmp_path, 0, 2, width)
    before = (tmp_path / "evaluation.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"holds 2 episodes of every row, {episodes} are asked for"):
        claim(tmp_path, 2, episodes, width)
    assert (tmp_path / "evaluation.json").read_bytes() == before


def test_what_was_asked_for_and_never_begun_binds_nobody(tmp_path):
    """Stopped before its first further episode, it could not be repeated as it had been."""
    claim(tmp_path, 0, 40, width=5)
    claim(tmp_path, 0, 2)  # nothing is there
    claim(tmp_path, 2, 4)
    claim(tmp_path, 2, 2)  # none of the further ones is
    claim(tmp_path, 2, 5)
    claim(tmp_path, 4, 5)
    claim(tmp_path, 4, 6)  # two whole rollouts are there
    with pytest.raises(CheckpointError, match="holds 4 episodes of every row, 2 are asked for"):
        claim(tmp_path, 4, 2)


def test_a_batch_that_a_kill_has_cut_is_a_whole_one(tmp_path):
    claim(tmp_path, 0, 8, width=4)
    claim(tmp_path, 3, 12, width=4)


def test_what_is_made_of_all_planners_is_deleted_with_another_one(tmp_path):
    path = tmp_path / "latency.json"
    claim(tmp_path, 0, 2, dnk={"checkpoint": "a"})
    for maker, kept in (("a", True), ("b", False)):
        path.write_text("{}")
        claim(tmp_path, 2, 2, together=[path.name, "never made"], dnk={"checkpoint": maker})
        assert path.exists() == kept


@pytest.mark.slow
def test_further_episodes_join_and_are_those_of_one_evaluation(run, monkeypatch):
    entries = [entry(run, "ct-0"), entry(run, "ct-0", "none")]
    more = replace(CONFIG, episodes=5, width=2)
    whole = evaluate(run, more, "test", name="whole", entries=entries)
    evaluate(run, replace(more, episodes=2), "test", name="grown", entries=entries)
    rolled = counting(monkeypatch)
    grown = evaluate(run, more, "test", name="grown", entries=entries)
    assert len(rolled) == 4  # two batches of each that are not there yet
    assert keyed(records_of(grown)) == keyed(records_of(whole))
    returns = [json.loads((f / "comparison.json").read_text())["rows"]["ct"] for f in (grown, whole)]
    assert returns[0]["return_normalised"] == returns[1]["return_normalised"]
    assert returns[0]["episodes"]["mean"] == 5
    for folder in (grown, whole):
        shutil.rmtree(folder)


def counting(monkeypatch):
    """How many batches are rolled from now on."""
    rolled, honest = [], rollouts.roll
    monkeypatch.setattr(rollouts, "roll", lambda *given: rolled.append(given[2]) or honest(*given))
    return rolled


@pytest.mark.slow
def test_a_planner_trained_later_joins_what_is_there(run, evaluated, tmp_path, monkeypatch):
    there, rows = tmp_path / "run", ("kdm", "kdm-unselected", "ct", "ct-unselected")
    copy_without(run, there)
    kdm, ct = ([entry(there, f"{name}-0", selector) for selector in ("iql", "none")] for name in ("kdm", "ct"))
    evaluate(there, CONFIG, "onestride evaluate", entries=ct)
    rolled = counting(monkeypatch)
    folder = evaluate(there, CONFIG, "onestride evaluate", entries=[*kdm, *ct])
    assert len(rolled) == 2
    whole = keyed(records_of(evaluated[1]))
    assert keyed(records_of(folder)) == {key: record for key, record in whole.items() if key[0] in rows}
    assert tuple(json.loads((folder / "comparison.json").read_text())["rows"]) == rows
    assert "plans.kdm" in load_tensors(folder / "candidates.safetensors")[0]


@pytest.mark.slow
def test_a_planner_trained_later_joins_the_evaluation(run, evaluated, tmp_path, monkeypatch):
    copy_without(run, tmp_path / "run", "kdm-0")
    folder = evaluate(tmp_path / "run", CONFIG, "onestride evaluate")
    shutil.copytree(run / "kdm-0", tmp_path / "run" / "kdm-0")
    rolled = counting(monkeypatch)
    evaluate(tmp_path / "run", CONFIG, "onestride evaluate")
    assert len(rolled) == 3  # kdm, kdm-classifier, kdm-unselected
    assert keyed(records_of(folder)) == keyed(records_of(evaluated[1]))
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert list(rows) == ROWS
    assert "decision_ms_p50" in rows["kdm"]
    assert "plans.kdm" in load_tensors(folder / "candidates.safetensors")[0]


@pytest.mark.slow
def test_a_planner_trained_anew_is_evaluated_anew(again, evaluated, monkeypatch, capsys):
    """What was measured of the former one stays in the file and does not count."""
    config = json.loads((again / "kdm-0" / "config.json").read_text())
    config["training"]["id"] = "another"
    seal(again / "kdm-0" / "config.json", config)
    rolled = counting(monkeypatch)
    folder = evaluate(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3
    assert "kdm-0 (kdm)" in words(capsys.readouterr().err)
    before, after = (measured(read_records(f / "episodes.jsonl")) for f in (evaluated[1], folder))
    assert after == before  # the weights are the same here
    assert measured(records_of(folder)[: len(before)]) == before
    assert len(records_of(folder)) == len(before) + 3 * CONFIG.episodes
    made = json.loads((folder / "comparison.json").read_text())["rows"]["kdm"]
    assert (made["episodes"]["mean"], made["action_spread"]["n"]) == (CONFIG.episodes, 1)
    evaluate(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3


def measured(records):
    """Records without what made them."""
    made_by = ("checkpoint", "selector", "digest")
    return {key: {k: v for k, v in r.items() if k not in made_by} for key, r in keyed(records).items()}


@pytest.mark.slow
def test_another_critic_changes_what_it_ranks(again, monkeypatch):
    config = json.loads((again / "iql" / "config.json").read_text())
    config["training"]["id"] = "another"
    seal(again / "iql" / "config.json", config)
    rolled = counting(monkeypatch)
    evaluate(again, CONFIG, "onestride evaluate")
    assert len(rolled) == sum(not r.endswith(("classifier", "unselected")) and r != "teacher" for r in ROWS)


@pytest.mark.slow
def test_rows_that_are_no_longer_asked_for_do_not_count_as_done(again, monkeypatch):
    """A critic that judges one row only leaves no -first row to play; the former one's records stay."""
    config = json.loads((again / "iql" / "config.json").read_text())
    seal(again / "iql" / "config.json", config | {"judged_rows": 1})
    seen = []
    monkeypatch.setattr(module, "track", lambda title, total, done=0: Bar(seen, title, total, done))
    evaluate(again, CONFIG, "onestride evaluate")
    counts = [at for title, at, _ in seen if title == "episodes"]
    assert counts == sorted(counts)
    assert {total for title, _, total in seen if title == "episodes"} == {counts[-1]}


class Bar:
    """What a progress bar was told: (title, at, of how many)."""

    def __init__(self, seen, title, total, done):
        self.seen, self.title, self.total = seen, title, total
        self.update(done)

    def update(self, at, note=""):
        self.seen.append((self.title, at, self.total))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
