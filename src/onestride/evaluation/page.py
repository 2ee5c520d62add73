"""An evaluation as one self-contained page: pictures, film and tables, nothing fetched from anywhere."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

from onestride.evaluation import figures, shell
from onestride.evaluation.film import Motion, film
from onestride.evaluation.result import read_experiment
from onestride.files import CheckpointError, write_atomically
from onestride.reports.style import label, ordered, save
from onestride.reports.table import UNDEFINED, Column, Row, cells, means, speed_up
from onestride.studies.dnk_table2 import DURATION, INFERENCE, RATE, SUCCESS, candidates_table, table


def write(folder: Path, pictures: bool = True, page: Path | None = None) -> Path:
    """Make every picture and the film of an evaluation, and one page of it all; returns the page's path.

    page: where to put it, ``folder/report.html`` by default; it stands alone, so it may lie anywhere.

    With ``pictures=False`` those already there are used. What cannot be made is said on the page.

    Raises:
        FileNotFoundError: the folder holds no ``comparison.json``.
    """
    source = folder / "comparison.json"
    if not source.is_file():
        raise FileNotFoundError(
            f"{folder} holds no comparison.json: evaluate first, or name the folder that was evaluated"
        )
    comparison = read_experiment(source, beside=True)
    captions: dict[str, str] = {}
    absent: dict[str, str] = {}
    for step, needed, names in STEPS if pictures else ():
        if not (folder / needed).is_file():
            absent |= dict.fromkeys(names, f"the evaluation left no {needed}")
            continue
        try:
            captions |= step(folder)
        except CheckpointError as error:
            absent |= dict.fromkeys(names, str(error).replace(f"{folder / needed}", needed))
    for name in (*PICTURES, MP4):
        if not (folder / name).is_file():
            absent.setdefault(name, f"there is no {name}")
    text = shell.document(
        comparison,
        title=f"{comparison['experiment']}: {_names(comparison)}",
        lead=_summary(comparison),
        headline=_headline(comparison),
        body=BODY.substitute(
            table=shell.table([list(metric) for metric in zip(*cells(table(comparison, paper=True)), strict=True)]),
            generation=shell.table(cells(candidates_table(comparison))),
            film=_film_element(folder, captions, absent),
            pictures="\n".join(_picture_element(folder, name, captions, absent) for name in PICTURES),
        ),
    )
    out = page or folder / "report.html"
    write_atomically(out, lambda p: p.write_text(text, encoding="utf-8"))
    return out


#: Name of the file, what it shows (its alternative text), what to look at.
PICTURES: dict[str, tuple[str, str]] = {
    "frames.png": (
        "Frames of the film, one row per method, one column per moment",
        "Both arms at the same wall times: look at where each one is when the other arrives.",
    ),
    "candidates.png": (
        "Candidate paths of teacher and student from the same state, from above and from the side, coloured by score",
        "Every candidate from one state: look at whether the student keeps the teacher's ways around the obstacle. "
        "The same colour is the same score in both; obstacles that paths pass in front of or behind are dashed.",
    ),
    "pca.png": (
        "Principal components of the candidate paths of teacher and student, overlaid",
        "Each point is a whole path, in the plane in which the teacher's paths differ most: look at whether both "
        "clouds fill the same islands. Percentages are the teacher's variance that an axis explains.",
    ),
    "latency.png": (
        "Histograms of the time of one decision, by method, on a logarithmic axis",
        "Every decision of every trial: look at which methods finish before the control period is over.",
    ),
}
MP4, GIF = "arms.mp4", "arms.gif"


def _draw_candidates(folder: Path) -> dict[str, str]:
    candidates = figures.Candidates.load(folder / "candidates.safetensors")
    s = candidates.widest()
    save(figures.candidates_figure(candidates, s), folder / "candidates.png")
    save(figures.pca_figure(candidates), folder / "pca.png")
    return {"candidates.png": f"Shown is scene {candidates.scenes[s]}, in which the teacher's candidates differ most."}


def _draw_latency(folder: Path) -> dict[str, str]:
    save(figures.latency_figure(figures.read_latency(folder / "episodes.jsonl")), folder / "latency.png")
    return {}


def _shoot_film(folder: Path) -> dict[str, str]:
    made = film(Motion.load(folder / "motion.safetensors"), folder / MP4, folder / GIF)
    save(figures.frames_figure(made.stills, made.moments, made.notes), folder / "frames.png")
    played = "Played in real time." if made.speed == 1 else f"Played {made.speed} times faster than it happened."
    if made.drawn_because is not None:
        played += f" The arm is drawn as sticks: OpenGL does not work here ({made.drawn_because})."
    return {MP4: played}


STEPS = (
    (_draw_candidates, "candidates.safetensors", ("candidates.png", "pca.png")),
    (_draw_latency, "episodes.jsonl", ("latency.png",)),
    (_shoot_film, "motion.safetensors", (MP4, "frames.png")),
)


def _names(comparison: dict[str, Any]) -> str:
    return ", ".join(label(row) for row in ordered(comparison["rows"]))


def _student(comparison: dict[str, Any]) -> str | None:
    """The row that the headline is about."""
    return next((row for row in ordered(comparison["rows"]) if row != "teacher"), None)


def _summary(comparison: dict[str, Any]) -> str:
    trials = {row: metrics.get("success", {}).get("n") for row, metrics in comparison["rows"].items()}
    counts = ", ".join(f"{label(row)} {trials[row]}" for row in ordered(trials) if trials[row])
    seeds = len(comparison.get("seeds", {}).get("training", []))
    trained = f" Each student was trained {seeds} times, from different seeds." if seeds > 1 else ""
    same = "The same scenes, the same arm, the same clock for every method: what differs is the planner."
    return f"{same} Trials: {counts}.{trained}"


def _headline(comparison: dict[str, Any]) -> str:
    """A few large numbers, student against teacher."""
    rows, name = comparison["rows"], _student(comparison)
    if name is None or "teacher" not in rows:
        return ""
    student, teacher = rows[name], rows["teacher"]
    ratio = speed_up(student, teacher)
    cards = [
        (
            f"{UNDEFINED if ratio is None else f'{ratio:.1f}'}x",
            "faster decisions",
            _against(INFERENCE, student, teacher),
        )
    ]
    for column, unit, what in (
        (SUCCESS, "", "success"),
        (DURATION, " s", "to the goal"),
        (RATE, " Hz", "measured rate"),
    ):
        large = column.cell(means(student))
        cards.append((large if large == UNDEFINED else large + unit, what, _against(column, student, teacher)))
    return shell.cards([(large, f"{label(name)}: {what}", small) for large, what, small in cards])


def _against(column: Column, student: Row, teacher: Row) -> str:
    return f"{column.title}: {column.cell(student)}, {label('teacher')} {column.cell(teacher)}"


def _picture_element(folder: Path, name: str, captions: dict[str, str], absent: dict[str, str]) -> str:
    alt, caption = PICTURES[name]
    if name in absent:
        return shell.absent(alt, absent[name])
    return shell.picture(folder / name, alt, f"{caption} {captions.get(name, '')}".strip())


def _film_element(folder: Path, captions: dict[str, str], absent: dict[str, str]) -> str:
    if MP4 in absent:
        return shell.absent("The film of both arms", absent[MP4])
    caption = "Both arms in the same scene at the same wall time: each clock stops when its arm has arrived."
    what = "Film of both arms side by side, at the same wall time"
    return shell.film(folder / MP4, what, f"{caption} {captions.get(MP4, '')}".strip())


BODY = Template("""<h2>Both arms, one clock</h2>
$film
<h2>Numbers</h2>
$table
<p><small>Mean ± population standard deviation over all trials; success is the share of trials. Completion is the share
of the way to the goal that was covered. Inference is the wall time of one whole decision; speed-up is the teacher's
mean over the method's. The last columns are the paper's, from its own robot and computer: compare ratios, not
times.</small></p>
<h2>What the generators make</h2>
$generation
<h2>Pictures</h2>
$pictures""")
