"""Put the tables of the committed results into the documents that show them: ``python -m onestride.reports.documents``.

A table in a document stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``, a number in its prose between
``<!-- number: ... -->`` and ``<!-- /number -->`` (see ``numbers.py``); a test fails when one and its JSON differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from onestride.evaluation.result import read_experiment
from onestride.files import write_atomically
from onestride.reports.numbers import with_numbers
from onestride.reports.table import markdown

RESULTS = Path("results")
STUDIES = "onestride.studies"
BESIDE = ("latency",)  # ends the names of JSON that lies beside a result
SHOWN = re.compile(r"<!-- table: (\S+) -->\n(?:(?!<!-- table:).)*?<!-- /table -->", re.DOTALL)


def records(folder: Path) -> dict[str, Any]:
    """Return every result in a folder by its name, but for what lies beside one, such as NAME.latency.json."""
    results = (path for path in sorted(folder.glob("*.json")) if path.stem.rpartition(".")[2] not in BESIDE)
    return {path.stem: read_experiment(path) for path in results}


def tables(root: Path) -> dict[str, str]:
    """Return every study's tables by their names, made from the results below ``root``."""
    made: dict[str, str] = {}
    for found in iter_modules(import_module(STUDIES).__path__):
        if found.name != "__main__" and hasattr(study := import_module(f"{STUDIES}.{found.name}"), "tables"):
            made |= {name: markdown(table) for name, table in study.tables(root / RESULTS).items()}
    return made


def expected(made: Mapping[str, str]) -> dict[str, str]:
    """Return tables, and "" for those of studies of which no result is committed yet."""
    studies = import_module(STUDIES).STUDIES
    return {name: "" for name in studies if studies[name]().results == name} | dict(made)


def documents(root: Path) -> dict[Path, str]:
    """Return the text of every document below ``root`` that may show results: README.md and the pages of docs/."""
    return {path: path.read_text() for path in (root / "README.md", *sorted((root / "docs").rglob("*.md")))}


def generated(root: Path, texts: Mapping[Path, str]) -> dict[Path, str]:
    """Return documents with every table and number as the results below ``root`` have them.

    Raises:
        ValueError: a table stands in none of the documents, or a document asks for a table or number that is not there.
    """
    made = tables(root)
    missing = made.keys() - {name for text in texts.values() for name in SHOWN.findall(text)}
    if missing:
        name = min(missing)
        raise ValueError(
            f"no document shows the tables {sorted(missing)}: put '<!-- table: {name} -->' and '<!-- /table -->' where "
            "they go, in README.md or a page of docs/"
        )
    return {path: with_numbers(with_tables(text, made, path), root / RESULTS) for path, text in texts.items()}


def with_tables(text: str, made: Mapping[str, str], path: Path) -> str:
    """Return the text with a table between every pair of markers that names it.

    Raises:
        ValueError: a name that no result makes.
    """
    made = expected(made)
    if unknown := sorted(set(SHOWN.findall(text)) - made.keys()):
        raise ValueError(f"{path} shows the tables {unknown}, which no result makes; there are {sorted(made)}")

    def block(at: re.Match[str]) -> str:
        lines = (f"<!-- table: {at[1]} -->", made[at[1]].strip(), "<!-- /table -->")
        return "\n".join(line for line in lines if line)

    return SHOWN.sub(block, text)


def main(root: Path = Path()) -> None:
    """Write tables and numbers into the documents that they have changed in."""
    before = documents(root)
    for path, text in generated(root, before).items():
        if text != before[path]:
            write_atomically(path, lambda p, text=text: p.write_text(text))


if __name__ == "__main__":
    main()
