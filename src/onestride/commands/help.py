"""Docstrings as the text of ``--help``: paragraphs flow, examples and lists keep their lines."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

#: What a line has that is not to be joined to the one before it: it is indented, or has columns.
_ON_ITS_OWN = re.compile(r" {2}")
_WIDEST = 120


def flowing(text: str) -> str:
    """Return a docstring with every paragraph on one line, which a terminal wraps; blank lines are between paragraphs.

    Lines of examples and lists stay, indented, right below what comes before them: tyro would make two blank lines of
    one there, and would join them if they were not indented.
    """
    made = ""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.splitlines()
        if any(_ON_ITS_OWN.search(line) for line in lines):
            made += "".join(f"\n    {line.strip()}" for line in lines)
        else:
            made += "\n\n" * bool(made) + " ".join(line.strip() for line in lines)
    return made


def described(text: str) -> str:
    """Return a docstring as a command's description, as wide as the terminal: tyro does not wrap that.

    Further lines are indented, or tyro would join them again.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    return "\n".join(
        line if line.startswith(" ") else textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False)
        for line in flowing(text).split("\n")
    )


def first_paragraph(text: str) -> str:
    """Return what a docstring begins with, on one line: what a list of commands has room for."""
    return flowing(inspect.cleandoc(text).partition("\n\n")[0])


def asked_for(arguments: Sequence[str]) -> bool:
    """Return whether words of a command line ask for help."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def help_of(command: Any, arguments: Sequence[str]) -> str:
    """Return the description of a command with its defaults; its options flow too, where help is asked for."""
    if asked_for(arguments):
        let_options_flow(command)
    return described(type(command).__doc__ or "")


def let_options_flow(command: Any) -> None:
    """Give tyro the docstrings of a command's fields, and of the settings in it, as text that flows.

    tyro itself leaves the indentation of their further lines, and breaks there.
    """
    from docstring_parser import parse_from_object  # with which tyro reads them, too

    said: dict[str, str] = {}
    for kind in reversed(type(command).__mro__[:-1]):
        said |= {each.arg_name: each.description for each in parse_from_object(kind).params if each.description}
    for field in fields(command):
        metadata: Mapping[str, Any] = field.metadata
        if field.name in said and "help" not in metadata:
            field.metadata = {**metadata, "help": flowing(said[field.name])}  # type: ignore[misc]
        if is_dataclass(value := getattr(command, field.name)):
            let_options_flow(value)
