"""Numbers in prose are those of the results."""

import pytest

from onestride.files import write_json
from onestride.reports.numbers import with_numbers


@pytest.fixture
def results(tmp_path):
    rows = {"dnk": {"return": {"mean": 0.75}, "share": {"mean": 0.768}}, "a teacher": {"return": {"mean": 1.5}}}
    write_json(tmp_path / "bodies" / "hopper.json", {"rows": rows})
    write_json(tmp_path / "paper" / "body.json", {"source": "a paper", "rows": rows})
    return tmp_path


def mark(asked, shown="?"):
    return f"<!-- number: {asked} -->{shown}<!-- /number -->"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("bodies/hopper dnk return .2f", "0.75"),
        ("bodies/hopper dnk share .0%", "77 %"),
        ("bodies/hopper 'dnk/a teacher' return .3f", "0.500"),
        ("paper/body dnk return .2f", "0.75"),
    ],
)
def test_a_mark_has_the_results_number_whatever_stood_there(results, asked, shown):
    text = f"It keeps {mark(asked)} of it, and {mark(asked, shown)}."
    assert with_numbers(text, results) == f"It keeps {mark(asked, shown)} of it, and {mark(asked, shown)}."


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("bodies/hopper kdm return .2f", "has no return of row kdm"),
        ("bodies/hopper dnk falls .2f", "has no falls of row dnk"),
        ("bodies/hopper dnk", "expected FILE ROW METRIC FORMAT"),
    ],
)
def test_a_number_that_there_is_not_is_an_error(results, asked, said):
    with pytest.raises(ValueError, match=said):
        with_numbers(mark(asked), results)
