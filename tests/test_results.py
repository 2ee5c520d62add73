"""What the documents show is what was measured."""

import json
from pathlib import Path

import pytest

from onestride.evaluation import report
from onestride.evaluation.metrics import summarize
from onestride.evaluation.tables import DOCUMENT, LOCOMOTION, RESULT, tables

ROOT = Path(__file__).parent.parent


def test_the_readmes_tables_are_those_of_the_results():
    text = (ROOT / DOCUMENT).read_text()
    assert report.insert_tables(text, tables(ROOT)) == text, "run `make tables`"


def test_the_comparison_follows_from_its_records():
    comparison = json.loads((ROOT / RESULT).read_text())
    records = [json.loads(line) for line in (ROOT / RESULT).with_name("episodes.jsonl").read_text().splitlines()]
    for row, metrics in comparison["rows"].items():
        mine = [r for r in records if r["row"] == row]
        for name in ("success", "decision_ms_mean", "terminal_error_mm", "min_clearance_mm", "completion_time_s"):
            assert summarize([r[name] for r in mine], [r["seed"] for r in mine]) == metrics[name], (row, name)


@pytest.mark.parametrize("path", sorted((ROOT / LOCOMOTION).glob("*.json")), ids=lambda p: p.stem)
def test_returns_follow_from_their_episodes(path):
    if path.stem.count("."):
        return  # what lies beside a result
    comparison = json.loads(path.read_text())
    lines = path.with_name(f"{path.stem}.episodes.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for row, metrics in comparison["rows"].items():
        mine = [r for r in records if r["row"] == row]
        by_seed = summarize([r["return_normalised"] for r in mine], [r["seed"] for r in mine])["per_seed"]
        assert metrics["return_normalised"]["per_seed"] == pytest.approx(by_seed), row
        assert metrics["return_normalised"]["mean"] == pytest.approx(sum(by_seed) / len(by_seed)), row
        assert metrics["episodes"]["mean"] == len(mine), row
