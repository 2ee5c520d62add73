"""What the pages of all evaluations share: their look, and everything on them embedded, nothing fetched."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from onestride.reports.table import UNDEFINED

FACTS = ("started", "wall_s", "commit", "seeds", "machine", "versions", "config")


def document(comparison: dict[str, Any], *, title: str, lead: str, headline: str, body: str) -> str:
    """The whole page: title and lead (text), the headline's cards and the body (HTML), then how it was made."""
    return PAGE.substitute(
        title=escape(title),
        lead=escape(lead),
        headline=headline,
        body=body,
        notes="".join(f"<li>{escape(note)}</li>" for note in comparison.get("notes") or ["none"]),
        command=escape(str(comparison.get("command", UNDEFINED))),
        facts="".join(_fact(comparison, name) for name in FACTS),
    )


def cards(shown: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers: each the number, what it is, and a smaller line."""
    return "".join(
        f'<div class="card"><strong>{escape(large)}</strong><span>{escape(what)}</span>'
        f"<small>{escape(small)}</small></div>"
        for large, what, small in shown
    )


def table(cells: list[list[str]]) -> str:
    """The first line and the first cell of every line are headings."""

    def line(tag: str, texts: list[str]) -> str:
        first = f'<th scope="row">{escape(texts[0])}</th>' if tag == "td" else "<td></td>"
        scope = ' scope="col"' if tag == "th" else ""
        return f"<tr>{first}{''.join(f'<{tag}{scope}>{escape(text)}</{tag}>' for text in texts[1:])}</tr>"

    body = "".join(line("td", texts) for texts in cells[1:])
    return f'<div class="wide"><table><thead>{line("th", cells[0])}</thead><tbody>{body}</tbody></table></div>'


def picture(path: Path, alt: str, caption: str) -> str:
    return _figure(f'<img src="{_embedded(path, "image/png")}" alt="{escape(alt)}" loading="lazy">', caption)


def film(path: Path, what: str, caption: str) -> str:
    element = (
        f'<video src="{_embedded(path, "video/mp4")}" controls autoplay muted loop playsinline '
        f'aria-label="{escape(what)}"></video>'
    )
    return _figure(element, caption)


def absent(what: str, why: str) -> str:
    """Said where something should be shown and cannot be."""
    return f'<p class="absent">{escape(f"Not shown: {what[0].lower()}{what[1:]}, because {why}.")}</p>'


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _figure(element: str, caption: str) -> str:
    return f"<figure>{element}<figcaption>{escape(caption)}</figcaption></figure>"


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
main { max-width: 78rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
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
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0 1rem }
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
<p class="lead">$lead</p>
<div class="cards">$headline</div>
$body
<h2>Notes</h2>
<ul>$notes</ul>
<h2>Make it again</h2>
<pre><code>$command</code></pre>
$facts
</main>
</body>
</html>
""")
