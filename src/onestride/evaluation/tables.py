"""Put the tables of the committed results into the documents that show them: ``python -m onestride.evaluation.tables``.

A table in a document stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``; a test fails when one
and its JSON differ.
"""

from __future__ import annotations

from pathlib import Path

from onestride.evaluation import (
    ablation_report,
    bench_tables,
    benchmark_report,
    endurance_report,
    latencies,
    modes,
    report,
    samplings,
    screenings,
    startups,
)
from onestride.evaluation.result import read_result
from onestride.files import write_atomically

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
DOCUMENT = Path("README.md")


def tables(root: Path) -> dict[str, str]:
    """Every table by its name, made from the JSON below ``root``."""
    comparison = read_result(root / RESULT)
    made = {
        "kinova": report.table(comparison, paper=True),
        "kinova-candidates": report.generation_table(comparison),
        "kinova-real": report.table(read_result(root / ON_WALL_TIME)),
    }
    for path in sorted((root / LOCOMOTION).glob("*.json")):
        if path.stem.count("."):
            continue  # what lies beside a result
        measured = read_result(path)
        if path.stem.endswith("-ablations"):
            made[path.stem] = ablation_report.variant_table(measured)
            made[f"{path.stem}-numbers"] = ablation_report.number_table(measured)
            continue
        made[path.stem] = benchmark_report.table(measured)
        made[f"{path.stem}-detail"] = benchmark_report.detail_table(measured)
        made[f"{path.stem}-generators"] = benchmark_report.generation_table(measured)
    for path in sorted((root / MODES).glob("*.json")):
        made[f"modes-{path.stem}"] = modes.table(read_result(path))
    for path in sorted((root / SAMPLING).glob("*.json")):
        made[f"sampling-{path.stem}"] = samplings.table(read_result(path))
    for path in sorted((root / BENCH).glob("*.json")):
        measured = read_result(path)
        made[f"bench-{path.stem}"] = report.markdown(bench_tables.cells(measured, CANDIDATES))
        if len(measured["config"]["candidates"]) > 1:
            made[f"bench-{path.stem}-candidates"] = report.markdown(bench_tables.by_candidates(measured))
    screened = {path.stem: read_result(path) for path in sorted((root / SCREENING).glob("*.json"))}
    made["screening"] = screenings.table(screened)
    started = {path.stem: read_result(path) for path in sorted((root / STARTUP).glob("*.json"))}
    made["startup"] = startups.table(started)
    for path in sorted((root / LATENCY).glob("*.json")):
        made[f"latency-{path.stem}"] = latencies.table(read_result(path))
    runs = {path.stem: read_result(path) for path in sorted((root / REALTIME).glob("*.json"))}
    return made | {"realtime": report.markdown(endurance_report.cells(runs))}


def main(root: Path = Path()) -> None:
    """Write the tables into the document."""
    text = report.insert_tables((root / DOCUMENT).read_text(), tables(root))
    write_atomically(root / DOCUMENT, lambda p: p.write_text(text))


if __name__ == "__main__":
    main()
