"""Table I against its JSON, and the paper's numbers against the paper's own sentences."""

import io

import pytest
from rich.console import Console

from onestride.evaluation.variant import Variant
from onestride.reports.table import UNDEFINED, Table, cells, paper_rows, with_speed_up
from onestride.studies import dnk_table1 as study


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
    rows = {
        **named("ct", "iql", row(0.3, 1.0, 0.2)),
        **named("kdm-f", "iql", row(0.5, 5.0, 0.4)),
        **named("dnk", "returns", row(0.82, 5.0, 0.4)),
        **named("dnk", "none", unranked),
        **named("dnk", "iql", row(0.8, 4.0, 0.4)),
        **named("teacher", "iql", row(0.7, 110.0, 0.6)),
        **named("teacher", "returns", row(0.75, 100.0, 0.6)),
    }
    return {"experiment": "halfcheetah-v5", "rows": rows, "config": {"evaluate": {"episodes": 20}}}


def named(method, selector, metrics, **fields):
    variant = Variant(method=method, selector=selector, **fields)
    return {variant.row: {"variant": variant.fields(), **metrics}}


def lines(table: Table) -> dict[str, dict[str, str]]:
    heading, *found = cells(table)
    return {line[0]: dict(zip(heading, line, strict=True)) for line in found}


def test_every_ranked_row_stands_beside_the_papers(comparison):
    table = lines(study.table(comparison))
    assert list(table) == ["Teacher", "Teacher (IQL)", "DNK", "DNK (return model)", "KDM", "KDM-F", "CD", "CT"]
    assert table["DNK"]["return"] == "0.8000 ± 0.0100"
    assert table["DNK"]["sigma_ep"] == "0.0500"
    assert table["DNK"]["speed-up, times"] == "25.0"
    assert table["DNK"][f"{study.PAPER}: return"] == "0.8885 ± 0.0042"
    assert table["CT"]["paper: latency [ms]"] == "1.08 ± 2.31"
    assert table["Teacher (IQL)"]["paper: worst seed"] == UNDEFINED
    assert table["KDM"]["return"] == UNDEFINED  # not trained here


def test_a_body_the_paper_does_not_have(comparison):
    table = study.table(comparison | {"experiment": "hopper-v5"})
    assert not any("paper" in column.heading for column in table.columns)
    assert len(table.rows) == 6


@pytest.mark.parametrize(("body", "times"), [("halfcheetah", 142), ("walker2d", 172)])
def test_the_papers_speed_up_is_the_one_in_its_text(body, times):
    rows = with_speed_up(paper_rows(f"dnk-table1/{body}"))
    assert rows["dnk"]["speed_up"]["mean"] == pytest.approx(times, abs=0.5)


def test_details_and_generators(comparison):
    dnk = lines(study.detail_table(comparison))["DNK"]
    assert dnk["unselected return"] == "0.4000 ± 0.1000"
    assert dnk["p99 [ms]"] == "8.00"
    assert dnk["network calls"] == "20"
    table = lines(study.generators_table(comparison))
    assert list(table) == ["Teacher", "DNK", "KDM-F", "CT"]
    assert table["DNK"]["return by IQL"] == "0.8000 ± 0.0100"
    assert table["DNK"]["return by return model"] == "0.8200 ± 0.0100"
    assert table["Teacher"]["return by IQL"] == "0.7000 ± 0.0100"


def test_terminal_table_keeps_its_units(comparison):
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(study.terminal_table(comparison))
    text = console.export_text()
    assert "[ms]" in text
    assert "DNK (return model)" in text  # fits a narrow terminal
    assert "unselected)" not in text
    assert "…" not in text


def test_where_nobody_selects_what_there_is_stands_in_the_tables(comparison):
    """The terminal's table was empty, and so was the page's."""
    alone = {"return_normalised": metric(0.4, 0.1), "episodes": one(60)}
    comparison["rows"] = named("mip", "none", alone)
    assert list(study.table(comparison, paper=False).rows) == ["MIP (unselected)"]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(study.terminal_table(comparison))
    assert "0.4000" in console.export_text()


def test_a_spread_over_one_seed_is_a_dash(comparison):
    comparison["rows"]["teacher"]["return_normalised"] = one(0.75)
    table = lines(study.table(comparison))
    assert table["Teacher"]["return"] == f"0.7500 ± {UNDEFINED}"
    assert table["DNK"]["return"] == "0.8000 ± 0.0100"


def test_a_ratio_is_of_the_teacher_by_the_same_selector_and_says_the_episodes(comparison):
    rows = comparison["rows"]
    rows["teacher-iql"]["episodes"] = rows["teacher-iql"]["episodes"] | {"mean": 20}
    rows |= named("dnk", "iql", {k: v for k, v in rows["dnk"].items() if k != "variant"}, backend="engine-int8")
    table = {name: line[study.OF_TEACHER.heading] for name, line in lines(study.table(comparison)).items()}
    assert table["DNK"] == table["DNK (IQL, engine in 8 bits)"] == "1.143 (60 / 20)"  # 0.8 of 0.7, not of 0.75
    assert table["DNK (return model)"] == "1.093 (60 / 60)"  # 0.82 of 0.75
    assert table["Teacher"] == table["Teacher (IQL)"] == table["KDM"] == UNDEFINED
    (line,) = lines(study.ratio_table({"halfcheetah": comparison})).values()
    assert list(line.values())[:2] == ["halfcheetah", "1.143 (60 / 20)"]


@pytest.mark.parametrize("earned", [0.0, -1453.7])
def test_a_teacher_that_earned_nothing_has_no_multiples(comparison, earned):
    """Of two losses the worse one would be the larger multiple."""
    comparison["rows"]["teacher"]["return_normalised"] = metric(earned)
    table = lines(study.table(comparison))
    assert table["DNK (return model)"][study.OF_TEACHER.heading] == UNDEFINED
    assert table["DNK"][study.OF_TEACHER.heading] != UNDEFINED  # ranked as another teacher is


def test_a_planner_of_actions_stands_where_it_does_best_too(comparison):
    alone = {"return_normalised": metric(0.4, 0.1), "episodes": one(60)}
    assert study.best_unselected(comparison["rows"]) == []
    comparison["rows"] |= named("ct", "none", alone)
    assert study.best_unselected(comparison["rows"]) == ["ct-unselected"]
    assert "CT (unselected)" in study.table(comparison).rows
    comparison["rows"]["ct"]["return_normalised"] = metric(0.5, 0.1)
    assert "CT (unselected)" not in study.table(comparison).rows


def test_how_many_fell_says_of_how_many():
    (fell,) = (column for column in study.DETAILS if column.metric == "fell")
    assert fell.cell({"fell": {"mean": 1 / 30, "std": 0.2, "n": 30}}) == "3 % of 30"
    assert fell.cell({}) == UNDEFINED


# --- what stands below ---


def said(rows, draws=None) -> str:
    """Below a table whose rows have three seeds, the teacher's one."""
    made = {}
    for method, selector, backend in rows:
        n = 1 if method == "teacher" else 3
        metrics = {"return_normalised": {"mean": 0.4 if selector == "none" else 0.3, "std": 0.1, "n": n}}
        metrics |= {"decision_ms_mean": {"mean": 1.0, "std": 0.1, "n": 100}, "episodes": one(20)}
        made |= named(method, selector, metrics, backend=backend)
    engine = {} if draws is None else {"engine": {"draws": draws}}
    config = {"evaluate": {"episodes": 20}, **engine}
    (caption,) = study.table({"experiment": "hopper-v5", "rows": made, "config": config}).caption
    return caption


TEACHER, DNK, CT = ("teacher", "returns", "torch"), ("dnk", "iql", "torch"), ("ct", "iql", "torch")


def test_a_deviation_says_which_it_is_over_how_many():
    caption = said([TEACHER, DNK])
    assert "population standard deviation over training seeds of each seed's mean (1 or 3;" in caption
    assert "20 episodes of each seed" in caption
    assert "over 100 single decisions" in caption
    assert "bank" not in caption
    assert "argmax" not in caption


def test_an_engines_noise_bank_is_named_where_there_is_an_engine():
    assert "comes round after 256 decisions" in said([TEACHER, DNK, ("dnk", "iql", "engine")], 256)
    assert "bank" not in said([TEACHER, DNK], 256)


def test_an_argmax_over_actions_is_called_what_it_is():
    caption = said([TEACHER, CT, ("ct", "none", "torch")])
    assert "rewards the critic's errors" in caption
    assert "(CT (unselected))" in caption
    assert "(nowhere here)" in said([TEACHER, CT])
