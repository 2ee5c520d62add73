"""An evaluation as one self-contained page: pictures, films, tables and training curves, nothing fetched.

What all pages share is here and in ``page.html.j2``; what one task shows is in its study's template, which extends that
one, and a function makes each picture.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from onestride.checkpoint import CONFIG, load_config
from onestride.evaluation.provenance import preset_notes
from onestride.evaluation.result import read_experiment
from onestride.files import CheckpointError, write_atomically
from onestride.reports.figures import loss_terms, training_figure
from onestride.reports.render import RenderError
from onestride.reports.style import save
from onestride.reports.table import UNDEFINED, Column, Row, cells, variants, with_speed_up

#: Files -> what makes them, and returns what more is to be said below some of them, if anything.
Makers = Mapping[tuple[str, ...], Callable[[], dict[str, str] | None]]
Card = tuple[str, str, str]  # a large number, what it is, and a smaller line


def read_comparison(folder: Path) -> dict[str, Any]:
    """Return the result of an evaluation.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it, or what lies beside it, is not what was written.
    """
    if not (folder / "comparison.json").is_file():
        raise FileNotFoundError(f"{folder} holds no comparison.json: evaluate first, or name an evaluated folder")
    return read_experiment(folder / "comparison.json", beside=True)


def write(
    folder: Path, run: Path, template: Path, values: Mapping[str, Any], makers: Makers | None, out: Path | None = None
) -> Path:
    """Make the pictures and films of an evaluation, and one page of it all; returns the page's path.

    What cannot be made is said on the page.

    Args:
        run: whose training is shown.
        values: what the template names: "title", "lead", "headline" (cards), tables and more.
        makers: None: pictures and films already there are used.
        out: of the page, ``folder/report.html`` by default; it stands alone, so it may lie anywhere.
    """
    captions: dict[str, str] = defaultdict(str)  # file -> what more is said below it
    missing: dict[str, str] = {}  # file -> why it is not shown
    if makers is not None:
        makers = {**makers, ("training.png",): lambda: save(training_figure(trainings(run)), folder / "training.png")}
    for files, make in (makers or {}).items():
        try:
            captions |= make() or {}
        except (CheckpointError, FileNotFoundError, RenderError) as error:
            missing |= dict.fromkeys(files, _without_paths(str(error), folder, run))

    def why(file: str) -> str:
        return missing.get(file, "" if (folder / file).is_file() else f"there is no {file}")

    def embedded(file: str) -> str:
        kind = "video/mp4" if file.endswith(".mp4") else "image/png"
        return f"data:{kind};base64,{base64.b64encode((folder / file).read_bytes()).decode('ascii')}"

    loader = FileSystemLoader([Path(__file__).parent, template.parent])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    environment.globals |= {"cells": cells, "why": why, "embedded": embedded, "captions": captions, "dash": UNDEFINED}
    result = read_comparison(folder)
    first = preset_notes(result["config"])
    text = environment.get_template(template.name).render(result=result, first=first, **values)
    out = out or folder / "report.html"
    write_atomically(out, lambda p: p.write_text(text, encoding="utf-8"))
    return out


def headline(rows: Mapping[str, Row], shown: Mapping[Column, tuple[str, Column]]) -> list[Card]:
    """Return large numbers of the first student, each with another of its metrics against the teacher's.

    shown: column of the number -> what a reader calls it, column of the comparison.
    """
    rows, found = with_speed_up(rows), variants(rows)
    student = next((row for row, variant in found.items() if variant.method != "teacher"), None)
    if student is None or "teacher" not in rows:
        return []
    cards = []
    for column, (what, against) in shown.items():
        large = column.mean(rows[student])
        unit = f" {column.unit}" if column.unit and large != UNDEFINED else ""
        ours, theirs = (f"{found[row].label} {against.cell(rows[row])}" for row in (student, "teacher"))
        cards.append((large + unit, f"{found[student].label}: {what}", f"{against.title}: {ours}, {theirs}"))
    return cards


def trainings(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the loss terms of every training of a run, by the network's name, for each of its seeds.

    Raises:
        CheckpointError: there is none that was recorded.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(run.glob(f"*/{CONFIG}")):
        name, _, seed = path.parent.name.rpartition("-")
        terms = loss_terms((load_config(path.parent)["training"] or {}).get("history", []))
        if terms:
            found.setdefault(name if seed.isdigit() else path.parent.name, []).append(terms)
    if not found:
        raise CheckpointError(f"{run} holds no checkpoint with a record of its losses")
    return found


def _without_paths(text: str, *folders: Path) -> str:
    """Return an error's text with names as they are inside the run."""
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return text
