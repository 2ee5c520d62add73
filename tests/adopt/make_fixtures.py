"""Make the checkpoints that the tests of this folder adopt, by the code of the library that they are of.

    python3.12 -m venv lerobot && lerobot/bin/pip install lerobot==0.6.1 diffusers dill omegaconf
    lerobot/bin/python tests/adopt/make_fixtures.py tests/adopt/fixtures

``lerobot-*`` are folders that LeRobot's own ``DiffusionPolicy`` and its processors saved, with weights nobody trained.
``original/latest.ckpt`` has the original's layout as its workspace writes it: OmegaConf, dill and ``torch.save`` are
the original ones, and the network, which cannot be installed here, is LeRobot's, whose weights are given the original's
names. ``golden.safetensors`` beside each has observations in pixels, the noise, and the actions in pixels that the
library makes of them. This file needs nothing of onestride.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dill
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from omegaconf import OmegaConf
from safetensors.torch import save_file

SHAPES = {"observation.state": 2, "observation.environment_state": 16, "action": 2}
BATCH, HORIZON, OBS, ACTIONS = 2, 16, 2, 8
MIN_MAX, MEAN_STD = NormalizationMode.MIN_MAX, NormalizationMode.MEAN_STD
#: What differs between the folders.
CASES = {
    "lerobot-ddpm": {
        "normalization_mapping": {"STATE": MIN_MAX, "ENV": MIN_MAX, "ACTION": MIN_MAX},
        "noise_scheduler_type": "DDPM",
    },
    "lerobot-ddim": {
        "normalization_mapping": {"STATE": MEAN_STD, "ENV": MEAN_STD, "ACTION": MEAN_STD},
        "noise_scheduler_type": "DDIM",
        "num_inference_steps": 10,
        "use_film_scale_modulation": False,
        "down_dims": (8, 8),
        "prediction_type": "sample",
        "clip_sample_range": 1.5,
    },
}


def statistics() -> dict[str, dict[str, torch.Tensor]]:
    """As of a data set on a field of 512 px, in which one corner's x never changes."""
    rng = torch.Generator().manual_seed(1)
    made = {}
    for name, size in SHAPES.items():
        rows = 30 + 450 * torch.rand(200, size, generator=rng)
        if size == 16:
            rows[:, 4] = 256.0
        made[name] = {"min": rows.amin(0), "max": rows.amax(0), "mean": rows.mean(0), "std": rows.std(0)}
        if size == 16:
            made[name]["std"][4] = 0.0
    return made


def policy_of(**settings) -> DiffusionPolicy:
    """A small policy with random weights, all of them away from zero."""
    inputs = {
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (16,)),
    }
    config = DiffusionConfig(
        n_obs_steps=OBS,
        horizon=HORIZON,
        n_action_steps=ACTIONS,
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        device="cpu",
        **{
            "down_dims": (8, 16), "kernel_size": 3, "n_groups": 4, "diffusion_step_embed_dim": 8, **settings,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    policy = DiffusionPolicy(config).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def questions() -> dict[str, torch.Tensor]:
    """Observations of two steps, the older first (B, 2, 18), of which corner 2's x is as ever; and the first noise."""
    rng = torch.Generator().manual_seed(2)
    observations = 30 + 450 * torch.rand(BATCH, OBS, 18, generator=rng)
    observations[..., 2 + 4] = 256.0
    return {"observations": observations, "noise": torch.randn(BATCH, HORIZON, 2, generator=rng)}


def normalised(preprocess, observations: torch.Tensor) -> dict[str, torch.Tensor]:
    """Observations (B, 2, 18) as the policy gets them, through LeRobot's own processor, one step at a time."""
    steps = [
        preprocess({"observation.state": step[:, :2], "observation.environment_state": step[:, 2:]})
        for step in observations.unbind(1)
    ]
    return {name: torch.stack([step[name] for step in steps], 1) for name in list(SHAPES)[:2]}


@torch.no_grad()
def golden(policy: DiffusionPolicy, batch: dict[str, torch.Tensor], unnormalise) -> dict[str, torch.Tensor]:
    """LeRobot's chunk (B, 8, 2) in pixels; what its sampler draws after the first noise; one call of its network."""
    asked, steps = questions(), policy.config.num_inference_steps or policy.config.num_train_timesteps
    drawn = policy.config.noise_scheduler_type == "DDPM"
    torch.manual_seed(3)
    step_noise = torch.stack([torch.randn(BATCH, HORIZON, 2) for _ in range((steps - 1) * drawn)]) if drawn else None
    after = torch.get_rng_state()
    torch.manual_seed(3)
    chunk = policy.diffusion.generate_actions(dict(batch), noise=asked["noise"].clone())
    assert not drawn or torch.equal(torch.get_rng_state(), after)  # it drew this noise and no other
    condition = policy.diffusion._prepare_global_conditioning(batch)
    t = torch.tensor([37, 99])
    return {
        **asked,
        **({"step_noise": step_noise} if drawn else {}),
        "chunk": unnormalise(chunk),
        "timesteps": t,
        "output": policy.diffusion.unet(asked["noise"], t, global_cond=condition),
    }


def write_lerobot(folder: Path, settings: dict) -> None:
    policy = policy_of(**settings)
    preprocess, postprocess = make_diffusion_pre_post_processors(policy.config, statistics())
    policy.save_pretrained(folder)
    preprocess.save_pretrained(folder)
    postprocess.save_pretrained(folder)
    found = golden(policy, normalised(preprocess, questions()["observations"]), postprocess)
    save_file({name: value.contiguous() for name, value in found.items()}, folder / "golden.safetensors")


# ---------------------------------------------------------------- the original


def original_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LeRobot's names of the network's weights -> the original's."""
    made = {}
    for name, value in weights.items():
        name = name.removeprefix("diffusion.unet.")
        name = name.replace(".conv1.block.", ".blocks.0.block.").replace(".conv2.block.", ".blocks.1.block.")
        if name.split(".")[0] in ("down_modules", "up_modules") and name.split(".")[2] == "2":
            name = name.replace(".2.", ".2.conv.")
        made[f"model.{name}"] = value
    return made


def write_original(path: Path) -> None:
    """A checkpoint of a low-dimensional policy, ``torch.save`` of what the original's workspace puts together."""
    policy = policy_of(down_dims=(8, 8))
    stats, state = statistics(), {}
    low, high = (
        torch.cat([stats[name][which] for name in list(SHAPES)[:2]]) for which in ("min", "max")
    )  # its one field of observations
    for field, least, most in (("obs", low, high), ("action", stats["action"]["min"], stats["action"]["max"])):
        reach = most - least
        still = reach < 1e-4
        reach[still] = 2.0
        scale = 2.0 / reach
        offset = -1.0 - scale * least
        offset[still] = -least[still]
        state[f"normalizer.params_dict.{field}.scale"], state[f"normalizer.params_dict.{field}.offset"] = scale, offset
        for name, value in (("min", least), ("max", most), ("mean", least), ("std", reach)):
            state[f"normalizer.params_dict.{field}.input_stats.{name}"] = value.clone()
    weights = {**original_names(policy.state_dict()), "mask_generator._dummy_variable": torch.zeros(0), **state}
    cfg = OmegaConf.create(
        {
            "_target_": "diffusion_policy.workspace.train_diffusion_unet_lowdim_workspace."
            "TrainDiffusionUnetLowdimWorkspace",
            "horizon": HORIZON, "n_obs_steps": OBS, "n_action_steps": ACTIONS, "n_latency_steps": 0,
            "obs_as_global_cond": True,
            "task": {"name": "pusht_lowdim", "obs_dim": 18, "action_dim": 2},
            "training": {"use_ema": True},
            "policy": {
                "_target_": "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy",
                "model": {
                    "_target_": "diffusion_policy.model.diffusion.conditional_unet1d.ConditionalUnet1D",
                    "input_dim": "${eval: ${task.action_dim} if ${obs_as_global_cond} else 0}",
                    "local_cond_dim": None, "diffusion_step_embed_dim": 8, "down_dims": [8, 8], "kernel_size": 3,
                    "n_groups": 4, "cond_predict_scale": True,
                },
                "noise_scheduler": {
                    "_target_": "diffusers.schedulers.scheduling_ddpm.DDPMScheduler", "num_train_timesteps": 100,
                    "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "squaredcos_cap_v2",
                    "variance_type": "fixed_small", "clip_sample": True, "prediction_type": "epsilon",
                },
                "horizon": "${horizon}", "obs_dim": "${task.obs_dim}", "action_dim": "${task.action_dim}",
                "n_action_steps": "${eval:'${n_action_steps}+${n_latency_steps}'}", "n_obs_steps": "${n_obs_steps}",
                "num_inference_steps": 100, "obs_as_local_cond": False, "obs_as_global_cond": "${obs_as_global_cond}",
                "pred_action_steps_only": False, "oa_step_convention": True,
            },
        }
    )  # fmt: skip
    raw = {name: value + 1.0 if value.is_floating_point() else value for name, value in weights.items()}
    optimizer = torch.optim.AdamW(policy.parameters()).state_dict()
    payload = {
        "cfg": cfg,
        "state_dicts": {"model": raw, "ema_model": weights, "optimizer": optimizer},
        "pickles": {"global_step": dill.dumps(1234), "epoch": dill.dumps(5), "_output_dir": dill.dumps("outputs")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        torch.save(payload, file, pickle_module=dill)
    scale, offset = (state[f"normalizer.params_dict.obs.{name}"] for name in ("scale", "offset"))
    seen = questions()["observations"] * scale + offset
    batch = {"observation.state": seen[..., :2], "observation.environment_state": seen[..., 2:]}
    scale, offset = (state[f"normalizer.params_dict.action.{name}"] for name in ("scale", "offset"))
    found = golden(policy, batch, lambda chunk: (chunk - offset) / scale)
    save_file({name: value.contiguous() for name, value in found.items()}, path.with_name("golden.safetensors"))


def main(folder: Path) -> None:
    for name, settings in CASES.items():
        write_lerobot(folder / name, settings)
    write_original(folder / "original" / "latest.ckpt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
