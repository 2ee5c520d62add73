"""A table's columns and rows come out the same in every medium."""

from dataclasses import replace

import pytest

from onestride.reports.documents import with_tables
from onestride.reports.table import UNDEFINED, Column, Table, cells, markdown, terminal


def row(mean, std=None, n=3, **more):
    return {"return": {"mean": mean, "std": std, "n": n, **more}}


@pytest.mark.parametrize(
    ("column", "found", "shown"),
    [
        (Column("return", "return"), row(1.0, 0.25), "1.00 ± 0.25"),
        (Column("return", "return"), row(1.0), "1.00"),
        (Column("return", "return"), row(1.0, 0.0, n=1), f"1.00 ± {UNDEFINED}"),
        (Column("return", "return"), row(None), UNDEFINED),
        (Column("return", "return"), {}, UNDEFINED),
        (Column("return", "return", spread=False), row(1.0, 0.25), "1.00"),
        (Column("return", "return", digits=1, kind="percent"), row(0.5, 0.25), "50.0 ± 25.0 %"),
        (Column("return", "return", digits=0, kind="share", spread=False), row(0.5, 0.25, n=30), "50 % of 30"),
        (Column("return", "return", digits=0, kind="fraction"), row(1.5), "150%"),
        (Column("return", "return", digits=1, kind="times"), row(12.34), "12.3x"),
        (Column("return", "return", kind="change"), row(0.5), "+0.50"),
        (Column("return", "return", kind="change"), row(-0.5), "-0.50"),
        (Column("return", "return"), {"return": {"text": "as it is"}}, "as it is"),
        (Column("return", "return", digits=4), row(0.51234, 0.25, episodes=2), "0.51 ± 0.25"),
        (Column("return", "return", digits=4), row(0.51234, 0.25, episodes=10), "0.5123 ± 0.2500"),
        (Column("return", "return", digits=1), row(0.51234, episodes=2), "0.5"),
    ],
)
def test_a_cell(column, found, shown):
    assert column.cell(found) == shown


TABLE = Table((Column("return", "return", "m"),), {"a": row(1.0, 0.5), "b": {}}, ("Below.", "Further."), corner="who")


def test_markdown_is_the_cells_with_the_caption_below():
    assert cells(TABLE) == [["who", "return [m]"], ["a", "1.00 ± 0.50"], ["b", UNDEFINED]]
    wanted = f"| who | return [m] |\n| --- | ---: |\n| a | 1.00 ± 0.50 |\n| b | {UNDEFINED} |\n\nBelow.\n\nFurther."
    assert markdown(TABLE) == wanted


def test_a_terminal_has_means_alone_of_what_any_row_has():
    unknown = Column("fell", "fell")
    made = terminal(replace(TABLE, columns=(unknown, *TABLE.columns)), "a title")
    assert [list(column.cells) for column in made.columns] == [["a", "b"], ["1.00", UNDEFINED]]


def test_tables_are_put_between_their_markers_and_taken_out_again(tmp_path):
    page = "a\n<!-- table: main -->\nold\n<!-- /table -->\nb\n<!-- table: other -->\nkept\n<!-- /table -->\n"
    filled = with_tables(page, {"main": "| \\1 new |", "other": "kept"}, tmp_path)
    assert filled == page.replace("old", "| \\1 new |")
    assert with_tables(filled, {"main": "old", "other": "kept"}, tmp_path) == page
