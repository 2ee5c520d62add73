"""The card that goes to a hub: the folder's own, with what the run measured where the card says that it has none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from onestride.card import CARD, NOT_EVALUATED, checkpoint_card, exported_card
from onestride.engine.folder import CHECKSUMS, CONTRACT
from onestride.files import CONFIG, read_json
from onestride.hub.folder import list_of
from onestride.seals import check_seal, read_result

COMPARISON = Path("evaluation") / "comparison.json"  # of a run
_HEAD = re.compile(r"---\r?\n(.*?^)---\r?$", re.DOTALL | re.MULTILINE)
#: The entries of a head that say the licence, each with its further lines.
_LICENCE = re.compile(r"^license(?:_name|_link)?:.*\n(?:[ \t-].*\n)*", re.MULTILINE)


def card_of(folder: Path) -> str:
    """Return a folder's card as it goes to a hub. A folder of an early version has none yet.

    Raises:
        CheckpointError: the config, or the run's comparison, was altered.
    """
    path = folder / CARD
    if list_of(folder) == CHECKSUMS:
        return path.read_text() if path.is_file() else exported_card(read_json(folder / CONTRACT, dict[str, Any]))
    config: dict[str, Any] = check_seal(folder / CONFIG)
    text = path.read_text() if path.is_file() else checkpoint_card(config)
    if NOT_EVALUATED not in text:
        return text
    return text.replace(NOT_EVALUATED, results_of(folder.resolve().parent, config) or NOT_EVALUATED)


def with_licence_of(card: str, there: str) -> str:
    """Return a card with the licence of the card that is on the hub, if it has none itself."""
    mine, theirs = _HEAD.match(card), _HEAD.match(there)
    if mine is None or theirs is None or _LICENCE.search(mine[1]):
        return card
    licence = "".join(_LICENCE.findall(theirs[1]))
    return f"{card[: mine.end(1)]}{licence}{card[mine.end(1) :]}"


def results_of(run: Path, config: dict[str, Any]) -> str | None:
    """Return what a run's comparison says of a checkpoint as Markdown; None: it was not in one."""
    training = (config.get("training") or {}).get("id")
    if training is None or not (run / COMPARISON).is_file():
        return None
    report = read_result(run / COMPARISON)
    settings: dict[str, Any] = report["config"]
    names = [
        name
        for name, said in settings.items()
        if isinstance(said, dict) and (said.get("training") or {}).get("id") == training
    ]
    methods = {name.rpartition("-")[0] if name.rpartition("-")[2].isdigit() else name for name in names}
    rows = {name: row for name, row in report["rows"].items() if row.get("variant", {}).get("method") in methods}
    if not rows:
        return None
    lines = []
    for name, row in rows.items():
        for metric, value in row.items():
            if metric != "variant" and value["mean"] is not None:
                spread = "-" if len(value["per_seed"]) < 2 else f"{value['std']:.4g}"
                lines.append(f"| {name} | {metric} | {value['mean']:.4g} | {spread} | {value['n']} |")
    seeds = ", ".join(map(str, report["seeds"].get("training", ())))
    return (
        f"Measured by `{report['command']}`, training seeds {seeds} together, on {report['machine'].get('cpu')}. "
        "n values each; of one seed there is no spread.\n\n"
        "| row | metric | mean | std | n |\n| --- | --- | ---: | ---: | ---: |\n" + "\n".join(lines)
    )
