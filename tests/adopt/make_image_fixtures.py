"""Make the policies with cameras that the tests of this folder adopt, by LeRobot's own code, without their weights.

    python3.12 -m venv lerobot && lerobot/bin/pip install lerobot==0.6.1 diffusers
    lerobot/bin/python tests/adopt/make_image_fixtures.py tests/adopt/fixtures

Each ``lerobot-image-*`` has what ``DiffusionPolicy`` and its processors saved, ``shapes.json`` in place of
model.safetensors (see ``seeded_weights.py``), and ``golden.safetensors``: states, the noise, and what LeRobot makes of
them and of images that are drawn again. With a second argument weights are kept too. This file needs nothing of
onestride.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from safetensors.torch import save_file
from seeded_weights import drawn, images

BATCH, HORIZON, OBS, ACTIONS = 2, 16, 2, 8
MIN_MAX, MEAN_STD, IDENTITY = NormalizationMode.MIN_MAX, NormalizationMode.MEAN_STD, NormalizationMode.IDENTITY
NUMBERS = {"observation.state": 2, "observation.environment_state": 3, "action": 2}
#: What differs between the folders: cameras and their size, whether the environment's state is seen, settings.
CASES = {
    "lerobot-image-group": (
        ["observation.image"], (96, 96), False,
        {"use_group_norm": True, "crop_shape": (84, 84), "use_separate_rgb_encoder_per_camera": False,
         "normalization_mapping": {"VISUAL": MEAN_STD, "STATE": MIN_MAX, "ACTION": MIN_MAX}},
    ),
    "lerobot-image-batch": (
        ["observation.images.wrist", "observation.images.top"], (60, 80), True,
        {"use_group_norm": False, "resize_shape": (48, 64), "crop_ratio": 0.9, "spatial_softmax_num_keypoints": 8,
         "normalization_mapping": {"VISUAL": MIN_MAX, "STATE": MEAN_STD, "ENV": MEAN_STD, "ACTION": MEAN_STD}},
    ),
    "lerobot-image-shared": (
        ["observation.images.top", "observation.images.wrist"], (41, 52), False,
        {"use_group_norm": True, "crop_shape": (32, 45), "use_separate_rgb_encoder_per_camera": False,
         "spatial_softmax_num_keypoints": 4, "crop_is_random": False,
         "normalization_mapping": {"VISUAL": IDENTITY, "STATE": MIN_MAX, "ACTION": MIN_MAX}},
    ),
}  # fmt: skip


def statistics(cameras: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    """As of a data set on a field of 512 px, seen by cameras whose colours lie within a part of 0 to 1."""
    rng, made = torch.Generator().manual_seed(1), {}
    for name, size in NUMBERS.items():
        rows = 30 + 450 * torch.rand(200, size, generator=rng)
        made[name] = {"min": rows.amin(0), "max": rows.amax(0), "mean": rows.mean(0), "std": rows.std(0)}
    for name in cameras:
        rows = 0.1 + 0.7 * torch.rand(200, 3, generator=rng) ** 2
        stats = {"min": rows.amin(0), "max": rows.amax(0), "mean": rows.mean(0), "std": rows.std(0)}
        made[name] = {key: value[:, None, None] for key, value in stats.items()}
    return made


def policy_of(cameras: list[str], size: tuple[int, int], environment: bool, settings: dict) -> DiffusionPolicy:
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (2,))}
    inputs |= {name: PolicyFeature(FeatureType.VISUAL, (3, *size)) for name in cameras}
    if environment:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (3,))
    config = DiffusionConfig(
        n_obs_steps=OBS, horizon=HORIZON, n_action_steps=ACTIONS, input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))}, device="cpu",
        pretrained_backbone_weights=None, down_dims=(8, 16), kernel_size=3, n_groups=4, diffusion_step_embed_dim=8,
        noise_scheduler_type="DDIM", num_inference_steps=5, **settings,
    )  # fmt: skip
    policy = DiffusionPolicy(config).eval()
    state = policy.state_dict()
    state |= {name: torch.from_numpy(value) for name, value in drawn({k: v.shape for k, v in state.items()}).items()}
    policy.load_state_dict(state)
    return policy


@torch.no_grad()
def golden(policy, preprocess, postprocess, cameras, size, environment) -> dict[str, torch.Tensor]:
    """What LeRobot makes of two decisions: the network's condition, one call of it, and the chunk in pixels."""
    rng = torch.Generator().manual_seed(2)
    seen = {
        name: 30 + 450 * torch.rand(BATCH, OBS, NUMBERS[name], generator=rng)
        for name in list(NUMBERS)[: 1 + environment]
    }
    pictures = {
        name: torch.from_numpy(images(BATCH * OBS, size, number)).unflatten(0, (BATCH, OBS))
        for number, name in enumerate(cameras)
    }
    steps = []
    for step in range(OBS):
        one = {name: value[:, step] for name, value in seen.items()}
        one |= {name: value[:, step].permute(0, 3, 1, 2).float() / 255 for name, value in pictures.items()}
        steps.append(preprocess(one))
    batch = {name: torch.stack([step[name] for step in steps], 1) for name in (*seen, *pictures)}
    batch["observation.images"] = torch.stack([batch[name] for name in cameras], -4)
    noise, t = torch.randn(BATCH, HORIZON, 2, generator=rng), torch.tensor([37, 99])
    condition = policy.diffusion._prepare_global_conditioning(batch)
    return {
        **seen, "noise": noise, "timesteps": t, "condition": condition,
        "output": policy.diffusion.unet(noise, t, global_cond=condition),
        "chunk": postprocess(policy.diffusion.generate_actions(dict(batch), noise=noise.clone())),
    }  # fmt: skip


def main(out: Path, keep_weights: bool) -> None:
    for name, case in CASES.items():
        folder, (cameras, size, environment, settings) = out / name, case
        policy = policy_of(*case[:3], settings)
        preprocess, postprocess = make_diffusion_pre_post_processors(policy.config, statistics(cameras))
        policy.save_pretrained(folder)
        preprocess.save_pretrained(folder)
        postprocess.save_pretrained(folder)
        found = golden(policy, preprocess, postprocess, cameras, size, environment)
        save_file({key: value.contiguous() for key, value in found.items()}, folder / "golden.safetensors")
        shapes = {key: list(value.shape) for key, value in policy.state_dict().items()}
        (folder / "shapes.json").write_text(json.dumps(shapes))
        if not keep_weights:
            (folder / "model.safetensors").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
