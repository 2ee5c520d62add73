"""What the documents show is what was measured."""

import json
import re
from pathlib import Path

import pytest

from onestride.evaluation.metrics import over_seeds, summarize
from onestride.evaluation.numbers import MARKED
from onestride.evaluation.records import Key
from onestride.evaluation.result import read_experiment
from onestride.evaluation.tables import DOCUMENT, LOCOMOTION, ON_WALL_TIME, RESULT, RESULTS, generated
from onestride.evaluation.variant import Variant

ROOT = Path(__file__).parent.parent
#: Results of returns; what lies beside one has a dot in its name.
RETURNS = [path for path in sorted((ROOT / LOCOMOTION).glob("*.json")) if "." not in path.stem]


def test_the_readmes_tables_and_numbers_are_those_of_the_results():
    text = (ROOT / DOCUMENT).read_text()
    assert generated(ROOT, text) == text, "run `make tables`"
    assert len(MARKED.findall(text)) > 40


def test_every_record_says_when_it_began_and_in_which_zone():
    records = {path: json.loads(path.read_text()) for path in (ROOT / RESULTS).rglob("*.json") if "." not in path.stem}
    assert len(records) > 20
    for path, record in records.items():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["started"]), path


def test_every_row_of_planners_says_its_variant():
    for path in (*RETURNS, ROOT / RESULT, ROOT / ON_WALL_TIME):
        for row, metrics in read_experiment(path)["rows"].items():
            assert Variant.of(metrics).row == row, path


def test_the_comparison_follows_from_its_records():
    comparison = json.loads((ROOT / RESULT).read_text())
    records = [json.loads(line) for line in (ROOT / RESULT).with_name("episodes.jsonl").read_text().splitlines()]
    for row, metrics in comparison["rows"].items():
        mine = [r for r in records if r["row"] == row]
        for name in ("success", "decision_ms_mean", "terminal_error_mm", "min_clearance_mm", "completion_time_s"):
            assert summarize([r[name] for r in mine], [r["seed"] for r in mine]) == metrics[name], (row, name)


@pytest.mark.parametrize("path", RETURNS, ids=lambda p: p.stem)
def test_returns_follow_from_their_episodes(path):
    comparison, records = json.loads(path.read_text()), beside(path, "episodes")
    for row, metrics in comparison["rows"].items():
        mine = [r for r in records if r["row"] == row]
        by_seed = summarize([r["return_normalised"] for r in mine], [r["seed"] for r in mine])["per_seed"]
        assert metrics["return_normalised"]["per_seed"] == pytest.approx(by_seed), row
        assert metrics["return_normalised"]["mean"] == pytest.approx(sum(by_seed) / len(by_seed)), row
        assert metrics["episodes"]["mean"] == len(mine), row


@pytest.mark.parametrize("path", RETURNS, ids=lambda p: p.stem)
def test_metrics_of_candidates_stand_in_the_order_of_their_seeds(path):
    comparison, records = json.loads(path.read_text()), sorted(beside(path, "candidates"), key=lambda r: r["seed"])
    compared = 0
    for row, metrics in comparison["rows"].items():
        mine = [r for r in records if r["row"] == Variant.of(metrics).generator]
        for name in {name for r in mine for name in r} - Key.__annotations__.keys() - {"digest"}:
            if name in metrics:
                expected = over_seeds([r[name] for r in mine])
                assert metrics[name]["per_seed"] == expected["per_seed"], (row, name)
                assert metrics[name]["mean"] == pytest.approx(expected["mean"]), (row, name)
                compared += 1
    assert compared > 50


@pytest.mark.parametrize("path", RETURNS, ids=lambda p: p.stem)
def test_a_latencys_deviation_is_over_the_decisions_on_record(path):
    comparison = json.loads(path.read_text())
    times = json.loads(path.with_name(f"{path.stem}.latency.json").read_text())
    assert times
    for row, taken in times.items():
        assert comparison["rows"][row]["decision_ms_mean"]["n"] == len(taken), row


def beside(path, what):
    return [json.loads(line) for line in path.with_name(f"{path.stem}.{what}.jsonl").read_text().splitlines()]
