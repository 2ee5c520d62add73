"""Planners trained later, trained anew or no longer asked for: what an evaluation keeps and what it makes again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from onestride.evaluation import batches
from onestride.evaluation import benchmark as module
from onestride.evaluation.benchmark import benchmark
from onestride.evaluation.ledger import claim
from onestride.evaluation.lineup import Entry
from onestride.evaluation.rollouts import add_records
from onestride.files import CheckpointError
from onestride.seals import seal
from onestride.tensors import load_tensors
from tiny_run import CONFIG, ROWS, copy_without, keyed, records_of, words


def test_an_evaluation_under_other_settings_is_refused(again):
    with pytest.raises(CheckpointError, match="under other settings"):
        benchmark(again, replace(CONFIG, states=CONFIG.states + 1), "onestride evaluate")


@pytest.mark.parametrize(
    ("episodes", "width"), [(1, 2), (7, 3)], ids=["fewer than there are", "a batch would be another one"]
)
def test_episodes_that_cannot_join_are_refused(run, tmp_path, episodes, width):
    entries = [Entry("ct", 0, run / "ct-0", "iql")]
    claim(tmp_path, run, {"episodes": 2, "width": width}, entries)
    add_records(tmp_path / "episodes.jsonl", [{"row": "ct", "seed": 0, "episode": n} for n in range(2)])
    before = (tmp_path / "evaluation.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"holds 2 episodes of every row, {episodes} are asked for"):
        claim(tmp_path, run, {"episodes": episodes, "width": width}, entries)
    assert (tmp_path / "evaluation.json").read_bytes() == before


def test_what_was_asked_for_and_never_begun_binds_nobody(run, tmp_path):
    """Stopped before its first further episode, it could not be repeated as it had been."""
    entries = [Entry("ct", 0, run / "ct-0", "iql")]

    def asked(episodes, width=2):
        claim(tmp_path, run, {"episodes": episodes, "width": width}, entries)

    asked(40)
    asked(2)  # nothing is there
    add_records(tmp_path / "episodes.jsonl", [{"row": "ct", "seed": 0, "episode": n} for n in range(2)])
    asked(4)
    asked(2)  # none of the further ones is
    asked(5)
    add_records(tmp_path / "episodes.jsonl", [{"row": "ct", "seed": 0, "episode": n} for n in (2, 3)])
    asked(5)
    asked(6)  # two whole batches are there
    with pytest.raises(CheckpointError, match="holds 4 episodes of every row, 2 are asked for"):
        asked(2)


def test_a_batch_that_a_kill_has_cut_is_a_whole_one(run, tmp_path):
    entries = [Entry("ct", 0, run / "ct-0", "iql")]
    claim(tmp_path, run, {"episodes": 8, "width": 4}, entries)
    add_records(tmp_path / "episodes.jsonl", [{"row": "ct", "seed": 0, "episode": n} for n in range(3)])
    claim(tmp_path, run, {"episodes": 12, "width": 4}, entries)


def test_further_episodes_join_and_are_those_of_one_evaluation(run, monkeypatch):
    entries = [Entry("ct", 0, run / "ct-0", "iql"), Entry("ct-unselected", 0, run / "ct-0", "none")]
    more = replace(CONFIG, episodes=5, width=2)
    whole = benchmark(run, more, "test", name="whole", entries=entries)
    benchmark(run, replace(more, episodes=2), "test", name="grown", entries=entries)
    rolled = counting(monkeypatch)
    grown = benchmark(run, more, "test", name="grown", entries=entries)
    assert len(rolled) == 4  # two batches of each that are not there yet
    assert keyed(records_of(grown)) == keyed(records_of(whole))
    returns = [json.loads((f / "comparison.json").read_text())["rows"]["ct"] for f in (grown, whole)]
    assert returns[0]["return_normalised"] == returns[1]["return_normalised"]
    assert returns[0]["episodes"]["mean"] == 5
    for folder in (grown, whole):
        shutil.rmtree(folder)


def counting(monkeypatch):
    """How many batches are rolled from now on."""
    rolled, honest = [], batches.roll
    monkeypatch.setattr(batches, "roll", lambda *given: rolled.append(given[2]) or honest(*given))
    return rolled


def test_a_planner_trained_later_joins_the_evaluation(run, evaluated, tmp_path, monkeypatch):
    copy_without(run, tmp_path / "run", "kdm-0")
    folder = benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    shutil.copytree(run / "kdm-0", tmp_path / "run" / "kdm-0")
    rolled = counting(monkeypatch)
    benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    assert len(rolled) == 3  # kdm, kdm-classifier, kdm-unselected
    assert keyed(records_of(folder)) == keyed(records_of(evaluated[1]))
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert list(rows) == ROWS
    assert "decision_ms_p50" in rows["kdm"]
    assert "plans.kdm" in load_tensors(folder / "candidates.safetensors")[0]
    assert not list(folder.glob("before-*"))


def test_a_planner_trained_anew_is_evaluated_anew(again, evaluated, monkeypatch, capsys):
    """And what was measured of the former one is put away, not lost."""
    config = json.loads((again / "kdm-0" / "config.json").read_text())
    config["training"]["id"] = "another"
    seal(again / "kdm-0" / "config.json", config)
    rolled = counting(monkeypatch)
    folder = benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3
    assert "kdm-0 (kdm)" in words(capsys.readouterr().err)
    records = keyed(records_of(evaluated[1]))
    assert keyed(records_of(folder)) == records  # the weights are the same here
    assert keyed(records_of(folder / "before-1")) == {k: r for k, r in records.items() if k[0].startswith("kdm")}
    benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3


def test_another_critic_changes_what_it_ranks(again, monkeypatch):
    config = json.loads((again / "iql" / "config.json").read_text())
    config["training"]["id"] = "another"
    seal(again / "iql" / "config.json", config)
    rolled = counting(monkeypatch)
    benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == sum(not r.endswith(("classifier", "unselected")) and r != "teacher" for r in ROWS)


def test_rows_that_are_no_longer_asked_for_do_not_count_as_done(again, monkeypatch):
    """A critic that judges one row only leaves no -first row to play; the former one's records stay."""
    config = json.loads((again / "iql" / "config.json").read_text())
    seal(again / "iql" / "config.json", config | {"judged_rows": 1})
    seen = []
    monkeypatch.setattr(module, "track", lambda title, total, done=0: Bar(seen, title, total, done))
    benchmark(again, CONFIG, "onestride evaluate")
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
