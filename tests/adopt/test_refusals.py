"""What is not adopted: one line says why, nothing is written, and nothing in a file is executed."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from adopted_files import DDPM, ORIGINAL, copied, edited, with_setting
from onestride.adopt import diffusion_policy
from onestride.adopt.adopting import adopt
from onestride.adopt.settings import Settings
from onestride.data.pickled import Made
from onestride.files import CheckpointError
from onestride.tasks import TASKS


@pytest.fixture
def pusht():
    return TASKS["pusht"]()


def refused(path, task, tmp_path, message):
    with pytest.raises(CheckpointError, match=message) as error:
        adopt(tmp_path / "run", path, task)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


CAMERA = {"type": "VISUAL", "shape": [3, 96, 96]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(type="act"), "policy type 'act'; type 'diffusion' "),
        (lambda said: said.pop("type"), "no LeRobot policy's"),
        (lambda said: said["input_features"].update({"observation.images.top": CAMERA}),
         "has 0 encoders of images, and 1 cameras"),
        (lambda said: said["input_features"].update({"joints": {"type": "STATE", "shape": [2]}}),
         "is given observation.state, observation.environment_state, joints; expected observation.state"),
        (lambda said: said["input_features"]["observation.state"].update(shape=[3]), "'min' of observation.state is"),
        (lambda said: said["output_features"].update(torque={"type": "ACTION", "shape": [2]}), "gives action, torque"),
        (lambda said: said.update(n_obs_steps=3), "is given 3 observations of 18 numbers"),
        (lambda said: said.update(beta_schedule="linear"), "beta schedule is 'linear'; squaredcos_cap_v2 can be read"),
        (lambda said: said.update(prediction_type="v_prediction"), "prediction is 'v_prediction'"),
        (lambda said: said.update(num_inference_steps=200), "samples in 200 of 100 steps"),
        (lambda said: said.update(horizon="16"), "Expected `int`, got `str`"),
        (lambda said: said.update(horizon=15), "horizon 15 is not divisible by 2"),
        (lambda said: said.update(n_groups=3), "divisible by the 3 groups"),
    ],
)  # fmt: skip
def test_what_a_config_may_not_say(change, message, pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    edited(folder, change)
    refused(folder, pusht, tmp_path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said["steps"][3]["config"]["norm_map"].update(STATE="POWER"), "normalised by 'POWER'"),
        (lambda said: said["steps"][3]["config"]["norm_map"].update(STATE="QUANTILES"), "have no 'q01' of it"),
        (lambda said: said["steps"][3]["config"].pop("norm_map"), "does not say how it normalises"),
        (lambda said: said["steps"][3].update(state_file="../elsewhere.safetensors"), "names no file of statistics"),
        (lambda said: said["steps"].insert(0, {"registry_name": "relative_actions_processor"}),
         "has relative_actions_processor; normalizer_processor once"),
        (lambda said: said["steps"].pop(), "has 0 times normalizer_processor"),
    ],
)  # fmt: skip
def test_what_a_processor_may_not_say(change, message, pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    edited(folder, change, "policy_preprocessor.json")
    refused(folder, pusht, tmp_path, message)


@pytest.mark.parametrize("name", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_without_its_processors_a_policys_units_are_unknown(name, pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    (folder / name).unlink()
    refused(folder, pusht, tmp_path, f"has no {name}, and no normalisation among its weights")


def test_a_missing_or_damaged_file_is_named(pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    statistics = folder / "policy_preprocessor_step_3_normalizer_processor.safetensors"
    statistics.write_bytes(statistics.read_bytes()[:50])
    refused(folder, pusht, tmp_path, f"{statistics.name} cannot be read")
    (folder / "model.safetensors").unlink()
    refused(folder, pusht, tmp_path, "model.safetensors cannot be read")
    (folder / "config.json").unlink()
    refused(folder, pusht, tmp_path, "has no config.json")
    refused(tmp_path / "nowhere", pusht, tmp_path, "there is no policy at")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("diffusion.unet.mid_modules.1.conv1.block.0.bias"), "another network than its settings say"),
        (lambda w: w.update({"diffusion.rgb_encoder.out.weight": torch.zeros(2)}), "and config.json names no camera"),
        (lambda w: w.update({"diffusion.text_encoder.weight": torch.zeros(2)}), "weights of something else"),
        (lambda w: w["diffusion.unet.final_conv.1.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.update({"diffusion.unet.final_conv.1.bias": torch.zeros(3)}), "has shape"),
        (lambda w: [w.pop(name) for name in list(w) if "down_modules" in name], "no conditional U-Net"),
    ],
)
def test_weights_of_something_else_are_refused(change, message, pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    refused(folder, pusht, tmp_path, message)


def test_another_task_is_refused(tmp_path):
    refused(DDPM, TASKS["kinova"](), tmp_path, "which plans of task 'kinova' are not; name a task of chunks")
    other = TASKS["pusht"]().with_control(action_dim=3)
    refused(DDPM, other, tmp_path, "gives actions of 2 numbers, task 'pusht' takes 3")


class Runs:
    """What a pickle that wants to run code makes."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_wants_to_run_code_runs_none(pusht, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    torch.save({"cfg": Runs(mark), "state_dicts": {}, "pickles": {}}, path)
    refused(path, pusht, tmp_path, r"it names posix.mkdir; .* Nothing in it was executed")
    torch.save({"cfg": {}, "state_dicts": {"model": {}}, "pickles": {"epoch": pickle.dumps(Runs(mark))}}, path)
    refused(path, pusht, tmp_path, "can be adopted")  # dill's bytes are never unpickled
    assert not mark.exists()
    path.write_bytes(b"no zip")
    refused(path, pusht, tmp_path, "expected a .ckpt of diffusion_policy, a .pt of CleanDiffuser, or LeRobot's folder")
    torch.save({"weights": {"a": torch.zeros(1)}}, path)
    refused(path, pusht, tmp_path, "it holds weights, not 'cfg' and 'state_dicts'")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            "policy._target_",
            "diffusion_policy.policy.x.DiffusionUnetHybridImagePolicy",
            "policy.shape_meta.obs is None, expected shapes and types by name",
        ),
        (
            "policy._target_",
            "diffusion_policy.policy.x.DiffusionTransformerLowdimPolicy",
            "is a DiffusionTran",
        ),
        ("policy.pred_action_steps_only", True, "whole chunks"),
        ("obs_as_global_cond", False, "observations as a global condition"),
        ("horizon", "16", "horizon is '16', expected a number"),
        (
            "policy.noise_scheduler.variance_type",
            "fixed_large",
            "has variance_type = 'fixed_large'",
        ),
        ("policy.noise_scheduler.clip_sample_range", ["1"], "clips to list, expected a number above 0"),
        ("policy.eta", 0.5, "its noise scheduler has eta = 0.5: this is not read"),
        ("policy.noise_scheduler.beta_schedule", "linear", "beta schedule is 'linear'"),
    ],
)
def test_what_an_originals_settings_may_not_say(place, value, message, pusht, tmp_path, monkeypatch):
    with_setting(monkeypatch, place, value)
    refused(ORIGINAL, pusht, tmp_path, message)


def test_settings_that_stand_for_one_another_are_not_followed_forever():
    around = Settings({"a": "${b.n}", "b": {"n": "${a}", "m": {"n": "${b.m.n.n}"}}}, "here")
    assert isinstance(around.at("a"), str)
    assert around.at("b.m.n.n") is None
    wide = {f"k{level}": {"n": f"${{k{level + 1}.n.n}}"} for level in range(40)}
    assert Settings(wide, "here").at("k0.n.n") is None


def test_settings_that_hold_one_another_many_times_over_are_not_unfolded():
    bomb = Made("omegaconf.dictconfig.DictConfig", (), {"_content": {}})
    for _ in range(25):
        bomb = Made("omegaconf.dictconfig.DictConfig", (), {"_content": {"a": bomb, "b": bomb}})
    with pytest.raises(ValueError, match="nested too deeply"):
        diffusion_policy.plain_settings(bomb, diffusion_policy.Budget())
