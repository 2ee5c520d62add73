"""The ablations on the tiny preset: every variant differs in the one thing that its name says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from onestride import experiment
from onestride.checkpoint import load_config
from onestride.files import CheckpointError
from onestride.runs import presets
from onestride.studies import ablations
from tiny_run import CONFIG, PRESET


@pytest.mark.slow
def test_ablations_take_one_piece_away_and_share_everything_else(run, tmp_path, monkeypatch):
    whole = tmp_path / "run"
    shutil.copytree(run, whole)
    for name, kept in (("CANDIDATES", (1, 4)), ("DDIM_STEPS", (20, 4, 1))):
        monkeypatch.setattr(ablations, name, kept)
    left_out = ("no-spectral", "no-inverse")
    monkeypatch.setattr(ablations, "SETTINGS", [s for s in ablations.SETTINGS if s.name not in left_out])
    preset = replace(presets.load(PRESET), evaluate=CONFIG)
    with pytest.raises(CheckpointError, match="dnk-1 is not trained yet, and comes first: `onestride train dnk"):
        experiment.ablations(whole, preset.with_stage("dnk", seeds=(0, 1)), "test", "cpu")
    assert not (whole / "ablations").exists()
    folder = experiment.ablations(whole, preset, "test", "cpu").folder
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    variants = {"dnk", "no-action", "no-weights", "single-lambda", "ancestral"}
    steps = {"teacher-ddim-4", "teacher-ddim-1"}  # its teacher has four
    assert set(rows) == variants | steps | {f"{n}-unselected" for n in variants | steps} | {
        "candidates-1", "candidates-4",
    }  # fmt: skip
    assert [rows[f"teacher-ddim-{n}"]["nfe"]["mean"] for n in (1, 4)] == [1, 4]
    # At the whole teacher's states; with all its steps it is where it is, with one it is not.
    assert (
        rows["teacher-ddim-4"]["teacher_distance"]["mean"] == 0.0 < rows["teacher-ddim-1"]["teacher_distance"]["mean"]
    )
    trained = {name: load_config(whole / "ablations" / f"{name}-0") for name in variants}
    assert trained["no-action"]["generator"] == trained["dnk"]["generator"] | {"action": 0.0}
    assert trained["no-weights"]["generator"] == trained["dnk"]["generator"] | {"weighted": False}
    assert trained["single-lambda"]["generator"] == trained["dnk"]["generator"]
    assert trained["single-lambda"]["temperatures"] == [0.5]
    manifest = json.loads((whole / "ablations" / "pairs-ancestral" / "pairs.json").read_text())
    assert manifest["settings"]["solver"] == "ddpm"
    assert not (whole / "dnk-1").exists()  # nothing of it stands among the table's own checkpoints
    assert (folder / "ablations.png").stat().st_size > 20_000
