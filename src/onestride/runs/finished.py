"""What stays of a training: its record in the checkpoint, by which the same command knows that it is done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onestride.checkpoint import CONFIG, load_config
from onestride.differences import differing
from onestride.files import CheckpointError
from onestride.progress import console
from onestride.runs.made_with import note_of
from onestride.seals import check_files
from onestride.training.config import TrainConfig

#: What a checkpoint says of a data set that it learnt from, beside the behaviours' names.
SAID_OF_DATA = ("dataset", "source", "content", "seed", "episodes", "total_steps")


def record(training: TrainConfig, identity: dict[str, Any], log: dict[str, Any], preset: str = "") -> dict[str, Any]:
    """Return what a checkpoint's config says of its training. preset: whose settings these are, if they are one's."""
    made = {"id": _digest(training, identity, log["precision"]), "config": asdict(training), **log}
    return made | note_of(preset) | {"data": _learnt_from(identity)}


def _learnt_from(identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The data sets of a training's identity, or of its pairs': names, sizes and digests, without how they came to be.

    It tells people, in the model card; the training's id tells the program.
    """
    within = identity["pairs"][1] if "pairs" in identity else identity
    found = {}
    for name in ("data", "source"):
        if name in within:
            found[name] = {key: within[name][key] for key in SAID_OF_DATA if key in within[name]}
            if behaviours := within[name].get("behaviours"):
                found[name]["behaviours"] = [str(each["name"]) for each in behaviours]
    return found


def is_up_to_date(folder: Path, training: TrainConfig, identity: dict[str, Any]) -> bool:
    """Whether the folder holds the result of exactly this training.

    Raises:
        CheckpointError: it holds another one.
    """
    if not (folder / CONFIG).is_file():
        return False
    config = load_config(folder)
    ran_in = config["training"].get("precision", "") if training.precision == "auto" else training.precision
    if config["training"].get("id") != _digest(training, identity, ran_in):
        found = {"training": config["training"].get("config", {}), **config["training"].get("data", {})}
        wanted = {"training": asdict(training), **_learnt_from(identity)}
        for part in ("generator", "selector", "contexts"):
            if part in identity and isinstance(config.get(part), dict):
                found[part], wanted[part] = config[part], identity[part]
        raise CheckpointError(
            f"{folder} holds a checkpoint of other settings or other data{differing(found, wanted)}, which is not "
            "overwritten; choose another --run, or delete that folder"
        )
    check_files(folder / CONFIG, config["files"], advice=f"delete {folder} and run the same command again")
    console.print(f"{folder} is trained already", highlight=False)
    return True


def _digest(training: TrainConfig, identity: dict[str, Any], precision: str) -> str:
    """What a training's result depends on; precision: that it ran in, which "auto" leaves to the machine."""
    value = [training.identity() | {"precision": precision}, identity]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
