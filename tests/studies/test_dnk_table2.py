"""Table II against its JSON."""

import io

import pytest
from rich.console import Console

from onestride.evaluation.variant import Variant
from onestride.reports.table import UNDEFINED, cells
from onestride.studies import dnk_table2 as study


def metric(mean, std=0.5, n=20):
    return {"mean": mean, "std": std, "n": n, "per_seed": [] if mean is None else [mean, mean]}


@pytest.fixture
def comparison() -> dict:
    teacher = {"success": metric(0.95), "decision_ms_mean": metric(120.0, 3.25), "completion_time_s": metric(9.5)}
    dnk = {
        "success": metric(1.0, n=40),
        "decision_ms_mean": metric(8.0, 0.125),
        "completion_time_s": metric(None, None),
    }
    dnk |= {"nfe": metric(1.0, 0.0), "side_left": metric(0.25, n=7), "side_right": metric(0.5, n=7)}
    rows = {"dnk": dnk | {"side_over": metric(0.25, n=7)}, "teacher": teacher}
    for name, row in rows.items():
        row |= {"variant": Variant(method=name, selector="task").fields(), "candidate_spread_mm": metric(3.0)}
    return {"experiment": "kinova", "seeds": {"training": [0, 1]}, "rows": rows}


def lines(table):
    heading, *found = cells(table)
    return {line[0]: dict(zip(heading, line, strict=True)) for line in found}


def test_the_table_holds_the_json(comparison):
    table = study.table(comparison)
    shown = lines(table)
    assert list(shown) == ["Teacher", "DNK"]
    assert shown["Teacher"]["inference [ms]"] == "120.00 ± 3.25"
    assert shown["Teacher"]["success"] == "95.0 %"
    assert shown["DNK"]["speed-up"] == "15.0x"
    assert shown["DNK"]["completion time [s]"] == UNDEFINED  # null
    assert shown["DNK"]["terminal error [mm]"] == UNDEFINED  # missing
    assert "(Teacher 20, DNK 40); students have 2 seeds" in table.caption[0]


def test_the_papers_rows_are_asked_for_and_labelled(comparison):
    _, *shown = cells(study.table(comparison, paper=True))
    assert len(shown) == len(study.table(comparison).rows) + 2
    assert all("paper, its own robot and machine" in line[0] for line in shown[-2:])
    assert "25195.62 ± 283.24" in shown[-2]
    assert {"37.0x", "79.999 ± 0.019", "0.5020 ± 0.0245"} < set(shown[-1])


def test_candidates_by_side_and_success_by_seed(comparison):
    table = study.candidates_table(comparison)
    shown = lines(table)
    assert shown["Teacher"]["success by training seed"] == "95.0 / 95.0 %"
    assert shown["Teacher"]["left / right / over"] == UNDEFINED
    assert shown["DNK"]["left / right / over"] == "25 / 50 / 25 %"
    assert shown["DNK"]["network calls"] == "1"
    assert table.caption[0].endswith("open on both (at most 7).")


def test_the_terminal_keeps_units_and_names(comparison):
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(study.terminal_table(comparison))
    text = console.export_text()
    assert "time [s]" in text
    assert "15.0x" in text
    assert "Teacher" in text
