"""Numbers in a document's prose, made from the results as its tables are.

``<!-- number: FILE ROW METRIC FORMAT -->0.98<!-- /number -->``: the mean of a metric, as Python formats it. FILE is a
result below ``results/`` without its ending, or ``paper/<study>``. ROW may be a ratio of two, ``dnk/teacher-iql``, and
stands in quotes where it has spaces.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

from onestride.files import read_json

MARKED = re.compile(r"<!-- number: (?P<asked>[^>]*?) -->[^<]*<!-- /number -->")


def with_numbers(text: str, results: Path) -> str:
    """Return the text with every marked number as the results have it.

    Raises:
        ValueError: a mark that asks for what there is not; the message has the mark.
    """
    rows = cache(lambda file: read_json(results / f"{file}.json")["rows"])

    def made(found: re.Match[str]) -> str:
        asked = found["asked"]
        words = shlex.split(asked)
        if len(words) != 4:
            raise ValueError(
                f"'{asked}' is no number: expected FILE ROW METRIC FORMAT, such as a/b dnk/teacher fell .2f"
            )
        file, row, metric, form = words
        values = {name: rows(file).get(name, {}).get(metric, {}).get("mean") for name in row.split("/")}
        if missing := [name for name, value in values.items() if value is None]:
            raise ValueError(f"'{asked}': {file} has no {metric} of row {missing[0]}")
        first, *others = values.values()
        shown = format(first / others[0] if others else first, form).replace("%", " %")
        return f"<!-- number: {asked} -->{shown}<!-- /number -->"

    return MARKED.sub(made, text)
