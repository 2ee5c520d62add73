"""``--help`` is laid out for a terminal: paragraphs flow, examples keep their lines."""

from __future__ import annotations

import itertools

import pytest

from onestride.cli import main
from onestride.commands.help import described, flowing
from onestride.commands.program import COMMANDS as PROGRAM

COMMANDS = ([], ["adopt"], ["train"], ["run"], ["serve"], ["push"])


def test_paragraphs_flow_and_examples_keep_their_lines():
    text = """Do a thing
    or two.

        onestride do --it

    one:    a list
    two:    of columns

    At last
    (a word).
    """
    listed = "    onestride do --it\n    one:    a list\n    two:    of columns"
    assert flowing(text) == f"Do a thing or two.\n{listed}\n\nAt last (a word)."


def test_a_description_is_as_wide_as_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert described("Do a thing that takes\nlong.") == "Do a thing that\n  takes long."


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words) or "all")
def test_help_has_no_lone_words_and_no_double_blank_lines(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: {' '.join(['onestride', *command])}")
    assert all(len(line) <= 80 for line in lines)
    assert not any(a.strip() == b.strip() == "" for a, b in itertools.pairwise(lines))
    assert not any(line.startswith("│") and not line.strip("│ ") for line in lines)  # inside of a box


@pytest.mark.parametrize("command", [*PROGRAM, "train dnk"])
def test_help_says_a_default_once(command, capsys):
    """Sentences said one, and behind them it said (default: None)."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    words = capsys.readouterr().out.split()
    assert "(default:" in words
    assert "default:" not in words
    assert "Default:" not in words
