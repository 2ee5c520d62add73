"""What the documents show is what was measured."""

import json
import re
from pathlib import Path

import pytest

from onestride.evaluation.metrics import over_seeds, summarize
from onestride.evaluation.records import Key
from onestride.evaluation.result import read_experiment
from onestride.evaluation.variant import Variant
from onestride.reports.documents import RESULTS, documents, generated
from onestride.reports.numbers import MARKED

ROOT = Path(__file__).parent.parent
#: Results of returns; what lies beside one has a dot in its name.
ARM = RESULTS / "kinova" / "comparison.json"
RETURNS = [path for path in sorted((ROOT / RESULTS / "locomotion").glob("*.json")) if "." not in path.stem]


def test_the_documents_tables_and_numbers_are_those_of_the_results():
    texts = documents(ROOT)
    assert len(texts) > 10
    for path, text in generated(ROOT, texts).items():
        assert text == texts[path], f"{path} differs from results/: run `make tables`"
    assert sum(len(MARKED.findall(text)) for text in texts.values()) > 40


def test_a_table_that_no_document_shows_is_missed_and_one_that_no_result_makes_is_refused():
    texts = documents(ROOT)
    with pytest.raises(ValueError, match=r"no document shows the tables \['bench-halfcheetah"):
        generated(ROOT, {path: text for path, text in texts.items() if "bench-halfcheetah" not in text})
    with pytest.raises(ValueError, match=r"shows the tables \['kinvoa'\], which no result makes"):
        generated(ROOT, texts | {ROOT / "docs/new.md": "<!-- table: kinvoa -->\n<!-- /table -->"})


def test_every_record_says_when_it_began_and_in_which_zone():
    paths = (path for path in (ROOT / RESULTS).rglob("*.json") if "." not in path.stem and "paper" not in path.parts)
    records = {path: json.loads(path.read_text()) for path in paths}
    assert len(records) > 20
    for path, record in records.items():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["started"]), path
        assert not re.search(r"(^|[\s=])/", record["command"]), f"{path} names a place of the machine that made it"


def test_every_row_of_planners_says_its_variant():
    for path in (*RETURNS, *((ROOT / RESULTS).glob("kinova*/comparison.json"))):
        for row, metrics in read_experiment(path)["rows"].items():
            assert Variant.of(metrics).row == row, path


def test_the_comparison_follows_from_its_records():
    comparison = json.loads((ROOT / ARM).read_text())
    records = [json.loads(line) for line in (ROOT / ARM).with_name("episodes.jsonl").read_text().splitlines()]
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
