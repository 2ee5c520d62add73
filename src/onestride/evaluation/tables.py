"""Put the tables of the committed results into the documents that show them: ``python -m onestride.evaluation.tables``.

A table in a document stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``, a number in its prose between
``<!-- number: ... -->`` and ``<!-- /number -->`` (see ``numbers.py``); a test fails when one and its JSON differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onestride.evaluation import (
    ablation_report,
    bench_tables,
    benchmark_report,
    captions,
    endurance_report,
    latencies,
    modes,
    report,
    samplings,
    screenings,
    startups,
)
from onestride.evaluation.captions import under
from onestride.evaluation.numbers import with_numbers
from onestride.evaluation.result import read_experiment
from onestride.files import write_atomically

RESULTS = Path("results")
RESULT = Path("results/kinova/comparison.json")
ON_WALL_TIME = Path("results/kinova-real/comparison.json")
LOCOMOTION = Path("results/locomotion")  # one JSON per dataset
MODES = Path("results/modes")  # one JSON per dataset
SAMPLING = Path("results/sampling")  # one JSON per dataset
SCREENING = Path("results/screening")  # one JSON per task
BENCH = Path("results/bench")  # one JSON per task
LATENCY = Path("results/latency")  # one JSON per task
REALTIME = Path("results/realtime")  # one JSON per measured run
STARTUP = Path("results/startup")  # one JSON per machine
CANDIDATES = 64  # of the rows of BENCH that are shown
SHOWN = re.compile(r"<!-- table: (\S+) -->")


def tables(root: Path) -> dict[str, str]:
    """Every table by its name, made from the JSON below ``root``."""
    comparison, on_wall_time = read_experiment(root / RESULT), read_experiment(root / ON_WALL_TIME)
    made = {
        "kinova": under(report.table(comparison, paper=True), captions.trials(comparison), captions.PAPER),
        "kinova-candidates": under(report.generation_table(comparison), captions.clouds(comparison)),
        "kinova-real": under(report.table(on_wall_time), captions.trials(on_wall_time)),
    }
    bodies: dict[str, dict[str, Any]] = {}
    for path in sorted((root / LOCOMOTION).glob("*.json")):
        if path.stem.count("."):
            continue  # what lies beside a result
        measured = read_experiment(path)
        if path.stem.endswith("-ablations"):
            made[path.stem] = under(ablation_report.variant_table(measured), captions.generators(measured))
            made[f"{path.stem}-numbers"] = under(ablation_report.number_table(measured), captions.numbers(measured))
            continue
        bodies[path.stem] = measured
        made[path.stem] = under(benchmark_report.table(measured), captions.returns(measured))
        made[f"{path.stem}-detail"] = benchmark_report.detail_table(measured)
        made[f"{path.stem}-generators"] = under(
            benchmark_report.generation_table(measured), captions.generators(measured)
        )
    made["of-the-teacher"] = under(benchmark_report.ratio_table(bodies), captions.like_with_like(bodies))
    for path in sorted((root / MODES).glob("*.json")):
        measured = read_experiment(path)
        made[f"modes-{path.stem}"] = under(modes.table(measured), captions.modes(measured))
    for path in sorted((root / SAMPLING).glob("*.json")):
        measured = read_experiment(path)
        made[f"sampling-{path.stem}"] = under(samplings.table(measured), captions.samplings(measured))
    for path in sorted((root / BENCH).glob("*.json")):
        measured = read_experiment(path)
        shown = report.markdown(bench_tables.cells(measured, CANDIDATES))
        made[f"bench-{path.stem}"] = under(shown, captions.bench(measured))
        if len(measured["config"]["candidates"]) > 1:
            made[f"bench-{path.stem}-candidates"] = report.markdown(bench_tables.by_candidates(measured))
    screened = {path.stem: read_experiment(path) for path in sorted((root / SCREENING).glob("*.json"))}
    made["screening"] = screenings.table(screened)
    started = {path.stem: read_experiment(path) for path in sorted((root / STARTUP).glob("*.json"))}
    made["startup"] = startups.table(started)
    for path in sorted((root / LATENCY).glob("*.json")):
        measured = read_experiment(path)
        made[f"latency-{path.stem}"] = under(latencies.table(measured), captions.latencies(measured))
    runs = {path.stem: read_experiment(path) for path in sorted((root / REALTIME).glob("*.json"))}
    return made | {"realtime": report.markdown(endurance_report.cells(runs))}


def documents(root: Path) -> dict[Path, str]:
    """Return the text of every document below ``root`` that may show results: README.md and the pages of docs/."""
    return {path: path.read_text() for path in (root / "README.md", *sorted((root / "docs").rglob("*.md")))}


def generated(root: Path, texts: Mapping[Path, str]) -> dict[Path, str]:
    """Return documents with every table and number as the results below ``root`` have them.

    Raises:
        ValueError: a table stands in none of the documents, or a document asks for a table or number that is not there.
    """
    made = tables(root)
    shown = {path: set(SHOWN.findall(text)) for path, text in texts.items()}
    for path, names in shown.items():
        if unknown := sorted(names - made.keys()):
            raise ValueError(f"{path} shows the tables {unknown}, which no result makes; there are {sorted(made)}")
    if missing := sorted(made.keys() - set().union(*shown.values())):
        raise ValueError(
            f"no document shows the tables {missing}: put '<!-- table: {missing[0]} -->' and '<!-- /table -->' where "
            "they go, in README.md or a page of docs/"
        )
    return {
        path: with_numbers(report.insert_tables(text, {name: made[name] for name in shown[path]}), root / RESULTS)
        for path, text in texts.items()
    }


def main(root: Path = Path()) -> None:
    """Write tables and numbers into the documents that they have changed in."""
    before = documents(root)
    for path, text in generated(root, before).items():
        if text != before[path]:
            write_atomically(path, lambda p, text=text: p.write_text(text))


if __name__ == "__main__":
    main()
