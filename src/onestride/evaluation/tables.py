"""Put the tables of the committed results into the documents that show them: ``python -m onestride.evaluation.tables``.

A table in a document stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``, a number in its prose between
``<!-- number: ... -->`` and ``<!-- /number -->`` (see ``numbers.py``); a test fails when one and its JSON differ.
"""

from __future__ import annotations

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
BENCH = Path("results/bench")  # one JSON per task
LATENCY = Path("results/latency")  # one JSON per task
REALTIME = Path("results/realtime")  # one JSON per measured run
STARTUP = Path("results/startup")  # one JSON per machine
CANDIDATES = 64  # of the rows of BENCH that are shown
DOCUMENT = Path("README.md")


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
    started = {path.stem: read_experiment(path) for path in sorted((root / STARTUP).glob("*.json"))}
    made["startup"] = startups.table(started)
    for path in sorted((root / LATENCY).glob("*.json")):
        measured = read_experiment(path)
        made[f"latency-{path.stem}"] = under(latencies.table(measured), captions.latencies(measured))
    runs = {path.stem: read_experiment(path) for path in sorted((root / REALTIME).glob("*.json"))}
    return made | {"realtime": report.markdown(endurance_report.cells(runs))}


def generated(root: Path, text: str) -> str:
    """Return a document's text with every table and number as the results below ``root`` have them."""
    return with_numbers(report.insert_tables(text, tables(root)), root / RESULTS)


def main(root: Path = Path()) -> None:
    """Write tables and numbers into the document."""
    text = generated(root, (root / DOCUMENT).read_text())
    write_atomically(root / DOCUMENT, lambda p: p.write_text(text))


if __name__ == "__main__":
    main()
