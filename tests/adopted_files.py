"""For the tests of adopting: checkpoints that the libraries made themselves, and copies of them to alter."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adopt.seeded_weights import drawn
from onestride.adopt import diffusion_policy
from onestride.adopt.adopting import adopt
from onestride.files import CheckpointError
from onestride.plans.given import Given
from onestride.robot.fields import split_images
from onestride.tasks.pusht.task import pusht_image

FIXTURES = Path(__file__).parent / "adopt" / "fixtures"  # adopt/make_fixtures.py makes them
DDPM, DDIM, ORIGINAL = FIXTURES / "lerobot-ddpm", FIXTURES / "lerobot-ddim", FIXTURES / "original" / "latest.ckpt"


def golden_of(path):
    return load_file((path if path.is_dir() else path.parent) / "golden.safetensors")


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def edited(folder, change, name="config.json"):
    said = json.loads((folder / name).read_text())
    change(said)
    (folder / name).write_text(json.dumps(said))


def as_before_04(folder):
    """Move a LeRobot policy's statistics to where the library had them before 0.4: among the weights."""
    weights = load_file(folder / "model.safetensors")
    for module, file in (("normalize_inputs", "pre"), ("unnormalize_outputs", "post")):
        (statistics,) = folder.glob(f"policy_{file}processor_*.safetensors")
        for name, value in load_file(statistics).items():
            feature, _, statistic = name.rpartition(".")
            weights[f"{module}.buffer_{feature.replace('.', '_')}.{statistic}"] = value
    for file in folder.glob("policy_*"):
        file.unlink()
    save_file(weights, folder / "model.safetensors")
    return folder


def whole(name, folder):
    """Copy a policy with cameras, whose weights are drawn again, as ``make_image_fixtures.py`` did."""
    made = Path(shutil.copytree(FIXTURES / name, folder / name))
    shapes = json.loads((made / "shapes.json").read_text())
    weights = {key: torch.from_numpy(value) for key, value in drawn(shapes).items()}
    save_file(weights, made / "model.safetensors")
    return made


def original(name, folder):
    """Write a policy of diffusion_policy with cameras as its workspace saved it; its weights are drawn again."""
    made = folder / name
    made.mkdir()
    (made / "golden.safetensors").write_bytes((FIXTURES / name / "golden.safetensors").read_bytes())
    said = json.loads((FIXTURES / name / "weights.json").read_text())
    path = made / "latest.ckpt"
    with ZipFile(FIXTURES / name / "stripped.ckpt") as stripped, ZipFile(path, "w") as whole:
        for entry in stripped.namelist():
            whole.writestr(entry, stripped.read(entry))
        for key, (shape, averaged, other) in said.items():
            (value,) = drawn({key: shape}).values()
            whole.writestr(averaged, value.tobytes())
            whole.writestr(other, (value + 1).tobytes())
    return path


def with_setting(monkeypatch, place, value):
    """Let a checkpoint of diffusion_policy say something else at a place of its settings, None: nothing."""
    plain = diffusion_policy.plain_settings

    def changed(made, budget, depth=0):
        settings = plain(made, budget, depth)
        if depth == 0:
            *parents, last = place.split(".")
            inside = settings
            for name in parents:
                inside = inside[name]
            inside.pop(last, None)
            if value is not None:
                inside[last] = value
        return settings

    monkeypatch.setattr(diffusion_policy, "plain_settings", changed)


def cleandiffuser(name, folder):
    """Write a policy of CleanDiffuser's as it saves it; its averaged weights are drawn again, the others are larger."""
    made = Path(shutil.copytree(FIXTURES / name, folder / name))
    shapes = json.loads((made / "shapes.json").read_text())
    averaged = OrderedDict((key, torch.from_numpy(value)) for key, value in drawn(shapes).items())
    path = made / "model_final.pt"
    torch.save({"model": OrderedDict((k, v + 1) for k, v in averaged.items()), "model_ema": averaged}, path)
    return path


def task_with(*fields):
    """PushT's commands with other observations."""
    pusht = pusht_image()
    step = sum(field.size for field in fields)
    control = replace(pusht.control, fields=fields, observation_dim=2 * step, example=np.zeros(2 * step))

    def encode(observation):
        numbers, images = split_images(fields, observation, 2)
        return Given(observation[:, :0], numbers, None, images)

    return replace(pusht, control=control, context_dim=2 * control.numbers_dim, encode=encode)


def refused(path, task, tmp_path, message):
    """Assert that a checkpoint is refused in one line, and leaves nothing behind."""
    with pytest.raises(CheckpointError, match=message) as error:
        adopt(tmp_path / "run", path, task)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
