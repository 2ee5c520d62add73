"""A benchmark's evaluation as one self-contained page: Table I, pictures and films, nothing fetched from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from onestride.evaluation import benchmark_figures, figures, shell
from onestride.evaluation.benchmark_figures import label, ordered, parts
from onestride.evaluation.benchmark_film import FILMED, SIDE_BY_SIDE, RenderError, film, motion_of
from onestride.evaluation.records import EPISODES, MOTION, SHOWN, TIMES, read_records
from onestride.evaluation.result import read_experiment
from onestride.files import CheckpointError, write_atomically
from onestride.reports.style import save
from onestride.reports.table import Column, cells, means, with_speed_up
from onestride.runs.settings import ReturnsConfig
from onestride.seals import read_result
from onestride.studies.dnk_table1 import (
    LATENCY,
    PAPER,
    RETURN,
    SPEED_UP,
    UNSELECTED,
    WORST,
    detail_table,
    generators_table,
    paper_of,
    selected,
    table,
)
from onestride.tasks import TASKS

FILMS = {row: f"film-{row}.mp4" for row in FILMED} | {"replay": "replay.mp4", "gif": "replay.gif"}
#: What others should see of an evaluation, where it was made.
PUBLISHED = (
    "comparison.json", "episodes.jsonl", "pareto.png", "returns.png", "pca.png", "latency.png", "frames.png",
    FILMS["gif"],
)  # fmt: skip
#: What is said more where the paper has this body.
PAPER_POINTS = (
    " Hollow and grey: the paper's own, of another dataset and another machine, to compare shapes with and not numbers."
)
PAPER_COLUMNS = " The paper's columns are of another dataset and another machine."
#: Name of the file, what it shows (its alternative text), what to look at.
PICTURES: dict[str, tuple[str, str]] = {
    "pareto.png": (
        "Latency of a decision against normalised return, a point per row",
        "Fast is left, good is up; bars are the standard deviation over seeds.",
    ),
    "returns.png": (
        "Return of every episode, by row and seed",
        "Every episode is a dot: look at what a mean hides, and at what is left of a generator when nobody selects.",
    ),
    "pca.png": (
        "Principal components of the candidates of teacher and students, overlaid",
        "Each point is a whole candidate, in the plane in which the teacher's differ most, from the same noise at the "
        "same state: look at whether the student's cloud fills the teacher's or shrinks inside it. Percentages are the "
        "teacher's variance that the two axes explain; units are standard deviations of the data.",
    ),
    "latency.png": (
        "Histograms of the time of one decision, by row, on a logarithmic axis",
        "Single decisions, all rows in turns: look at which ones finish before the control period is over.",
    ),
    "frames.png": (
        "Frames of the films, one line per planner, one column per moment",
        "The same start for every planner, as if decisions took no time; the camera goes along.",
    ),
}


def write(folder: Path, run: Path, pictures: bool = True, page: Path | None = None, device: str = "cpu") -> Path:
    """Make every picture and film of an evaluation, and one page of it all; returns the page's path.

    run: where the planners are that are filmed; not needed where ``folder`` holds their motion already. page: where to
    put it, ``folder/report.html`` by default. With ``pictures=False`` pictures and films already there are used. What
    cannot be made is said on the page.

    Raises:
        FileNotFoundError: the folder holds no ``comparison.json``.
    """
    source = folder / "comparison.json"
    if not source.is_file():
        raise FileNotFoundError(f"{folder} holds no comparison.json: evaluate first, or name an evaluated folder")
    comparison = read_experiment(source, beside=True)
    absent: dict[str, str] = {}  # name of a file -> why it is not shown
    if pictures:
        absent = _draw(folder, comparison) | _shoot(folder, run, comparison, device)
    for name in (*PICTURES, *FILMS.values()):
        if not (folder / name).is_file():
            absent.setdefault(name, f"there is no {name}")
    main = table(comparison)
    text = shell.document(
        comparison,
        title=f"{comparison['experiment']}: {_names(comparison)}",
        lead=_summary(comparison),
        headline=_headline(comparison),
        body=BODY.substitute(
            replay=_film(folder, "replay", _replay_caption(comparison), absent),
            table=shell.table(cells(main)),
            caption=escape(" ".join(main.caption)),
            details=shell.table(cells(detail_table(comparison))),
            generation=shell.table(cells(generators_table(comparison))),
            films="\n".join(_film(folder, row, label(row), absent) for row in FILMED if row in comparison["rows"]),
            paper=PAPER_COLUMNS if paper_of(comparison) else "",
            pictures="\n".join(
                _picture(folder, name, absent, PAPER_POINTS * (name == "pareto.png" and bool(paper_of(comparison))))
                for name in PICTURES
            ),
        ),
    )
    out = page or folder / "report.html"
    write_atomically(out, lambda p: p.write_text(text, encoding="utf-8"))
    return out


# --- pictures and films ------------------------------------------------------------------------------------------


def _draw(folder: Path, comparison: dict[str, Any]) -> dict[str, str]:
    """Make every picture; returns why some were not, by name."""
    rows = comparison["rows"]

    def latency() -> Figure:
        measured = read_result(folder / TIMES, dict[str, list[float]])
        times = {row: 1e3 * np.array(s) for row, s in measured.items() if row in FILMED}
        return figures.latency_figure({row: times[row] for row in ordered(times)}, 1e3 * _control_dt(comparison))

    makers = {
        "pareto.png": lambda: benchmark_figures.pareto_figure(rows, paper_of(comparison), PAPER),
        "returns.png": lambda: benchmark_figures.returns_figure(read_records(folder / EPISODES)),
        "pca.png": lambda: benchmark_figures.pca_figure(benchmark_figures.read_plans(folder / SHOWN)),
        "latency.png": latency,
    }
    absent = {}
    for name, make in makers.items():
        try:
            save(make(), folder / name)
        except (CheckpointError, FileNotFoundError) as error:
            absent[name] = _without_paths(error, folder)
    return absent


def _shoot(folder: Path, run: Path, comparison: dict[str, Any], device: str) -> dict[str, str]:
    """Make the films and their strip; returns why not, by name."""
    try:
        config = ReturnsConfig(**comparison["config"]["evaluate"])
        motion = motion_of(run, config, folder / MOTION, device)
        made = film(motion, _latency_s(comparison), folder, FILMS)
    except (CheckpointError, FileNotFoundError, RenderError) as error:
        return dict.fromkeys((*FILMS.values(), "frames.png"), _without_paths(error, folder, run))
    save(figures.frames_figure(made.stills, made.moments, made.notes), folder / "frames.png")
    return {}


def _latency_s(comparison: dict[str, Any]) -> dict[str, float]:
    """Mean time of a decision by row [s], where it was measured."""
    means_ms = {row: m.get("decision_ms_mean", {}).get("mean") for row, m in comparison["rows"].items()}
    return {row: ms / 1e3 for row, ms in means_ms.items() if ms is not None}


def _control_dt(comparison: dict[str, Any]) -> float:
    return TASKS[comparison["experiment"]]().control_dt


def _without_paths(error: Exception, *folders: Path) -> str:
    """What went wrong, with names as they are inside the run."""
    text = str(error)
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return text


# --- text --------------------------------------------------------------------------------------------------------


def _names(comparison: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(label(parts(row)[0]) for row in ordered(comparison["rows"])))


def _summary(comparison: dict[str, Any]) -> str:
    counts: dict[float, list[str]] = {}
    for row, m in selected(comparison["rows"]).items():
        if "episodes" in m:
            counts.setdefault(m["episodes"]["mean"], []).append(label(parts(row)[0]))
    played = "; ".join(f"{count:g} of {', '.join(dict.fromkeys(names))}" for count, names in counts.items())
    seeds = len(comparison.get("seeds", {}).get("training", []))
    trained = f" Each student was trained {seeds} times, from different seeds." if seeds > 1 else ""
    return (
        "The same starts for every planner, in an environment that waits while it decides: what differs is the "
        f"planner and who selects among its candidates. Episodes with each selector: {played}.{trained}"
    )


def _headline(comparison: dict[str, Any]) -> str:
    """A few large numbers, the first student against the teacher."""
    rows = with_speed_up(comparison["rows"])
    student = next((row for row in selected(rows) if parts(row)[0] != "teacher"), None)
    if student is None or "teacher" not in rows:
        return ""
    name = label(student)

    def card(column: Column, what: str, against: Column | None = None) -> tuple[str, str, str]:
        ours, theirs = ((against or column).cell(rows[row]) for row in (student, "teacher"))
        return column.cell(means(rows[student])), f"{name}: {what}", f"{name} {ours}, {label('teacher')} {theirs}"

    return shell.cards(
        [
            card(RETURN, "normalised return"),
            card(WORST, "return of its worst seed"),
            card(UNSELECTED, "return when nobody selects"),
            card(SPEED_UP, "times faster; latency [ms]", LATENCY),
        ]
    )


def _picture(folder: Path, name: str, absent: dict[str, str], more: str = "") -> str:
    alt, caption = PICTURES[name]
    return shell.absent(alt, absent[name]) if name in absent else shell.picture(folder / name, alt, caption + more)


def _film(folder: Path, row: str, caption: str, absent: dict[str, str]) -> str:
    name, what = FILMS[row], "The replay" if row == "replay" else f"The film of {label(row)}"
    return shell.absent(what, absent[name]) if name in absent else shell.film(folder / name, what, caption)


def _replay_caption(comparison: dict[str, Any]) -> str:
    period, latency = _control_dt(comparison), _latency_s(comparison)
    said = []
    for row in SIDE_BY_SIDE:
        if row in latency:
            slower = max(1.0, latency[row] / period)
            pace = "full speed" if slower == 1 else f"{slower:.3g} times slower"
            said.append(f"{label(row)}: {1e3 * latency[row]:.3g} ms a decision, {pace}")
    return f"{REPLAY} The control period is {1e3 * period:g} ms. {'; '.join(said)}."


REPLAY = (
    f"{' and '.join(label(row) for row in SIDE_BY_SIDE)} from the same start, at the same wall time, played so that "
    "every control step takes as long as its decision takes on average here (or the control period, if that is "
    "longer): what a body that waits for its planner would look like. Nothing is lost to the waiting in this "
    "environment: returns are those of the table."
)
BODY = Template("""<h2>At the speed of thought</h2>
$replay
<h2>Table I</h2>
$table
<p><small>$caption Worst seed is the smallest of the seeds' means. Names without brackets are ranked as in the
paper: the teacher by the return classifier, students by the IQL critic. Speed-up is the teacher's mean latency over the
row's.
$paper</small></p>
<h2>What else each row is</h2>
$details
<p><small>Unselected return is what one candidate, taken as it comes, is worth. Candidates' spread is the standard
deviation of the first action over the candidates, normalised. Latency is the wall time of a whole decision.</small></p>
<h2>What the generators make</h2>
$generation
<p><small>A good selector can hide a collapsed student: here is what each generator is worth by itself. Distances are
root mean square between first actions from the same noise, normalised; own states are those that the planner itself
visits.</small></p>
<h2>Films</h2>
<div class="films">$films</div>
<h2>Pictures</h2>
$pictures""")
