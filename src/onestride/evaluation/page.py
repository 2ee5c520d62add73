"""An evaluation as one self-contained page: pictures, film and tables, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from onestride.checkpoint import CheckpointError, read_json, write_atomically
from onestride.evaluation import figures
from onestride.evaluation.figures import label, ordered
from onestride.evaluation.film import Motion, film
from onestride.evaluation.report import (
    DURATION,
    INFERENCE,
    RATE,
    SUCCESS,
    UNDEFINED,
    Column,
    Row,
    generation_cells,
    means,
    speed_up,
    table_cells,
)


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
    comparison = read_json(source)
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
    text = PAGE.substitute(
        title=escape(f"{comparison['experiment']}: {_names(comparison)}"),
        summary=_summary(comparison),
        headline=_headline(comparison),
        table=_html([list(metric) for metric in zip(*table_cells(comparison, paper=True), strict=True)]),
        generation=_html(generation_cells(comparison)),
        film=_film_element(folder, captions, absent),
        pictures="\n".join(_picture_element(folder, name, captions, absent) for name in PICTURES),
        notes="".join(f"<li>{escape(note)}</li>" for note in comparison.get("notes") or ["none"]),
        command=escape(str(comparison.get("command", UNDEFINED))),
        facts="".join(
            _fact(comparison, name) for name in ("started", "wall_s", "seeds", "machine", "versions", "config")
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
    figures.save(figures.candidates_figure(candidates, s), folder / "candidates.png")
    figures.save(figures.pca_figure(candidates), folder / "pca.png")
    return {"candidates.png": f"Shown is scene {candidates.scenes[s]}, in which the teacher's candidates differ most."}


def _draw_latency(folder: Path) -> dict[str, str]:
    figures.save(figures.latency_figure(figures.read_latency(folder / "episodes.jsonl")), folder / "latency.png")
    return {}


def _shoot_film(folder: Path) -> dict[str, str]:
    made = film(Motion.load(folder / "motion.safetensors"), folder / MP4, folder / GIF)
    figures.save(figures.frames_figure(made.stills, made.moments, made.notes), folder / "frames.png")
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
    return escape(f"{same} Trials: {counts}.{trained}")


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
    return "".join(
        f'<div class="card"><strong>{escape(large)}</strong><span>{escape(f"{label(name)}: {what}")}</span>'
        f"<small>{escape(small)}</small></div>"
        for large, what, small in cards
    )


def _against(column: Column, student: Row, teacher: Row) -> str:
    return f"{column.heading}: {column.cell(student)}, {label('teacher')} {column.cell(teacher)}"


def _html(cells: list[list[str]]) -> str:
    def line(tag: str, texts: list[str]) -> str:
        first = f'<th scope="row">{escape(texts[0])}</th>' if tag == "td" else "<td></td>"
        scope = ' scope="col"' if tag == "th" else ""
        return f"<tr>{first}{''.join(f'<{tag}{scope}>{escape(text)}</{tag}>' for text in texts[1:])}</tr>"

    body = "".join(line("td", texts) for texts in cells[1:])
    return f'<div class="wide"><table><thead>{line("th", cells[0])}</thead><tbody>{body}</tbody></table></div>'


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _figure(element: str, caption: str) -> str:
    return f"<figure>{element}<figcaption>{escape(caption)}</figcaption></figure>"


def _absent(what: str, why: str) -> str:
    return f'<p class="absent">{escape(f"Not shown: {what[0].lower()}{what[1:]}, because {why}.")}</p>'


def _picture_element(folder: Path, name: str, captions: dict[str, str], absent: dict[str, str]) -> str:
    alt, caption = PICTURES[name]
    if name in absent:
        return _absent(alt, absent[name])
    element = f'<img src="{_embedded(folder / name, "image/png")}" alt="{escape(alt)}" loading="lazy">'
    return _figure(element, f"{caption} {captions.get(name, '')}".strip())


def _film_element(folder: Path, captions: dict[str, str], absent: dict[str, str]) -> str:
    if MP4 in absent:
        return _absent("The film of both arms", absent[MP4])
    element = (
        f'<video src="{_embedded(folder / MP4, "video/mp4")}" controls autoplay muted loop playsinline '
        'aria-label="Film of both arms side by side, at the same wall time"></video>'
    )
    caption = "Both arms in the same scene at the same wall time: each clock stops when its arm has arrived."
    return _figure(element, f"{caption} {captions.get(MP4, '')}".strip())


def _fact(comparison: dict[str, Any], name: str) -> str:
    value = comparison.get(name)
    if isinstance(value, dict):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        return f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
    return f'<p class="fact"><b>{escape(name)}</b> {escape(UNDEFINED if value is None else str(value))}</p>'


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark }
:root { --ink: #1c2430; --soft: #5b6675; --paper: #fbfbfc; --card: #fff; --line: #dfe3e9; --mark: #b34700 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #a4aebd; --paper: #14181f; --card: #1d232c; --line: #353e4b; --mark: #ff9a5c }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem }
.lead, figcaption, small { color: var(--soft) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; margin-top: 1.75rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.1rem }
.card strong { display: block; font-size: 2rem; line-height: 1.15; color: var(--mark) }
.card span { display: block; font-weight: 600 } .card small { display: block; margin-top: .35rem }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .75rem; background: var(--card) }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums }
th, td { padding: .5rem .65rem; text-align: right; border-top: 1px solid var(--line); vertical-align: top }
td { white-space: nowrap } tbody th { text-align: left }
thead th, thead td { border-top: 0; color: var(--soft); font-weight: 600; vertical-align: bottom }
figure { margin: 0 0 2rem } figcaption { margin-top: .6rem; font-size: .93rem }
img, video { display: block; width: 100%; height: auto; border-radius: .75rem; border: 1px solid var(--line) }
img { padding: .6rem; background: #fff }
.absent { padding: .9rem 1.1rem; border: 1px dashed var(--line); border-radius: .75rem; color: var(--soft) }
pre { overflow-x: auto; padding: .9rem 1.1rem; font-size: .85rem }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .75rem }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0 } .fact { margin: .3rem 0 }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lead">$summary</p>
<div class="cards">$headline</div>
<h2>Both arms, one clock</h2>
$film
<h2>Numbers</h2>
$table
<p><small>Mean ± standard deviation over trials; success is the share of trials. Completion is the share of the way to
the goal that was covered. Inference is the wall time of one whole decision; speed-up is the teacher's mean over the
method's. The last columns are the paper's, from its own robot and computer: compare ratios, not times.</small></p>
<h2>What the generators make</h2>
$generation
<h2>Pictures</h2>
$pictures
<h2>Notes</h2>
<ul>$notes</ul>
<h2>Make it again</h2>
<pre><code>$command</code></pre>
$facts
</main>
</body>
</html>
""")
