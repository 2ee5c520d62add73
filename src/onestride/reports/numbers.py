"""Numbers in a document's prose, made from the results as its tables are.

``<!-- number: FILE ROW METRIC FORMAT -->0.98<!-- /number -->``: the mean of a metric, as Python formats it. FILE is a
result below ``results/`` without its ending, or ``paper/<study>``. ROW may be a ratio of two, ``dnk/teacher-iql``, and
stands in quotes where it has spaces.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from onestride.files import read_json

MARKED = re.compile(r"<!-- number: (?P<asked>[^>]*?) -->[^<]*<!-- /number -->")


def with_numbers(text: str, results: Path) -> str:
    """Return the text with every marked number as the results have it.

    Raises:
        ValueError: a mark that asks for what there is not; the message has the mark.
    """
    read: dict[str, Any] = {}

    def made(found: re.Match[str]) -> str:
        asked = found["asked"]
        words = shlex.split(asked)
        if len(words) != 4:
            raise ValueError(
                f"'{asked}' is no number: expected FILE ROW METRIC FORMAT, such as a/b dnk/teacher fell .2f"
            )
        file, row, metric, form = words
        if file not in read:
            read[file] = read_json(results / f"{file}.json")["rows"]
        values = []
        for name in row.split("/"):
            value = read[file].get(name, {}).get(metric, {}).get("mean")
            if value is None:
                raise ValueError(f"'{asked}': {file} has no {metric} of row {name}")
            values.append(value)
        number = values[0] if len(values) == 1 else values[0] / values[1]
        shown = format(number, form).replace("%", " %")
        return f"<!-- number: {asked} -->{shown}<!-- /number -->"

    return MARKED.sub(made, text)
