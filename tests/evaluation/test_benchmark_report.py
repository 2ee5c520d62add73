"""Table I against its JSON, and the paper's numbers against the paper's own sentences."""

import io

import pytest
from rich.console import Console

from onestride.evaluation import benchmark_report as report
from onestride.evaluation.report import UNDEFINED


def metric(mean, std=None):
    return {"mean": mean, "std": std, "n": 3, "per_seed": [mean, mean, mean]}


def one(mean):
    return {"mean": mean, "std": 0.0, "n": 1, "per_seed": [mean]}


@pytest.fixture
def comparison() -> dict:
    def row(value, ms, unselected):
        made = {"return_normalised": metric(value, 0.01), "worst_seed_return": metric(value - 0.02)}
        made |= {"sigma_ep": metric(0.05, 0.02), "unselected_return": metric(unselected, 0.1), "nfe": metric(20)}
        made |= {"episodes": {"mean": 60, "std": None, "n": 1, "per_seed": []}}
        return made | {"decision_ms_mean": metric(ms), "decision_ms_p99": metric(2 * ms)}

    unranked = {"return_normalised": metric(0.4, 0.1), "unselected_return": metric(0.4, 0.1)}
    rows = {"ct": row(0.3, 1.0, 0.2), "kdm-f": row(0.5, 5.0, 0.4), "dnk-classifier": row(0.82, 5.0, 0.4)}
    rows |= {"dnk-unselected": unranked, "dnk": row(0.8, 4.0, 0.4), "teacher-iql": row(0.7, 110.0, 0.6)}
    return {"experiment": "halfcheetah-v5", "rows": rows | {"teacher": row(0.75, 100.0, 0.6)}}


def lines(markdown) -> list[dict[str, str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


def test_every_ranked_row_stands_beside_the_papers(comparison):
    table = {line[""]: line for line in lines(report.table(comparison))}
    assert list(table) == ["Teacher", "Teacher (IQL)", "DNK", "DNK (classifier)", "KDM", "KDM-F", "CD", "CT"]
    assert table["DNK"]["return"] == "0.8000 ± 0.0100"
    assert table["DNK"]["sigma_ep"] == "0.0500"
    assert table["DNK"]["speed-up, times"] == "25.0"
    assert table["DNK"][f"{report.PAPER}: return"] == "0.8885 ± 0.0042"
    assert table["CT"]["paper: latency [ms]"] == "1.08 ± 2.31"
    assert table["Teacher (IQL)"]["paper: worst seed"] == report.SIGMA.cell({})
    assert table["KDM"]["return"] == report.SIGMA.cell({})  # not trained here


def test_a_body_the_paper_does_not_have(comparison):
    table = report.table(comparison | {"experiment": "hopper-v5"})
    assert "paper" not in table
    assert len(lines(table)) == 6


@pytest.mark.parametrize(("body", "times"), [("halfcheetah", 142), ("walker2d", 172)])
def test_the_papers_speed_up_is_the_one_in_its_text(body, times):
    rows = report.with_speed_up(report.PAPER_ROWS[body])
    assert rows["dnk"]["speed_up"]["mean"] == pytest.approx(times, abs=0.5)


def test_details_and_generators(comparison):
    dnk = next(line for line in lines(report.detail_table(comparison)) if line[""] == "DNK")
    assert dnk["unselected return"] == "0.4000 ± 0.1000"
    assert dnk["p99 [ms]"] == "8.00"
    assert dnk["network calls"] == "20"
    table = {line[""]: line for line in lines(report.generation_table(comparison))}
    assert list(table) == ["Teacher", "DNK", "KDM-F", "CT"]
    assert table["DNK"]["return by IQL"] == "0.8000 ± 0.0100"
    assert table["DNK"]["return by classifier"] == "0.8200 ± 0.0100"
    assert table["Teacher"]["return by IQL"] == "0.7000 ± 0.0100"


def test_terminal_table_keeps_its_units(comparison):
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(report.terminal_table(comparison))
    text = console.export_text()
    assert "[ms]" in text
    assert "DNK (classifier)" in text  # fits a narrow terminal
    assert "unselected)" not in text
    assert "…" not in text


def test_a_spread_over_one_seed_is_a_dash(comparison):
    comparison["rows"]["teacher"]["return_normalised"] = one(0.75)
    table = {line[""]: line for line in lines(report.table(comparison))}
    assert table["Teacher"]["return"] == f"0.7500 ± {UNDEFINED}"
    assert table["DNK"]["return"] == "0.8000 ± 0.0100"


def test_a_ratio_is_of_the_teacher_by_the_same_selector_and_says_the_episodes(comparison):
    rows = comparison["rows"]
    rows["teacher-iql"]["episodes"] = rows["teacher-iql"]["episodes"] | {"mean": 20}
    rows["dnk-int8"] = rows["dnk"]
    table = {line[""]: line[report.OF_TEACHER] for line in lines(report.table(comparison))}
    assert table["DNK"] == table["DNK (IQL, engine in 8 bits)"] == "1.143 (60 / 20)"  # 0.8 of 0.7, not of 0.75
    assert table["DNK (classifier)"] == "1.093 (60 / 60)"  # 0.82 of 0.75
    assert table["Teacher"] == table["Teacher (IQL)"] == table["KDM"] == UNDEFINED
    (line,) = lines(report.ratio_table({"halfcheetah": comparison}))
    assert list(line.values())[:2] == ["halfcheetah", "1.143 (60 / 20)"]


def test_a_planner_of_actions_stands_where_it_does_best_too(comparison):
    alone = {"return_normalised": metric(0.4, 0.1), "episodes": one(60)}
    assert report.best_unselected(comparison["rows"]) == []
    comparison["rows"] |= {"ct-unselected": alone}
    assert report.best_unselected(comparison["rows"]) == ["ct-unselected"]
    assert "CT (unselected)" in [line[""] for line in lines(report.table(comparison))]
    comparison["rows"]["ct"]["return_normalised"] = metric(0.5, 0.1)
    assert "CT (unselected)" not in [line[""] for line in lines(report.table(comparison))]


def test_how_many_fell_says_of_how_many():
    assert report.FELL.cell({"fell": {"mean": 1 / 30, "std": 0.2, "n": 30}}) == "3 % of 30"
    assert report.FELL.cell({}) == UNDEFINED
