"""Make the policies with cameras that the tests of this folder adopt, by diffusion_policy's own code.

Its environment is that of its conda_environment.yaml; a checkout of 5ba07ac in the path is enough of it:

    python3.9 -m venv original
    original/bin/pip install torch==1.12.1 torchvision==0.13.1 numpy==1.23.3 diffusers==0.11.1 "huggingface_hub<0.20" \\
        einops==0.4.1 dill==0.3.5.1 hydra-core==1.2.0 zarr==2.12.0 numcodecs==0.10.2 h5py==3.7.0 safetensors six tqdm \\
        termcolor psutil tensorboardX imageio
    original/bin/pip install --no-deps robomimic==0.2.0
    PYTHONPATH=diffusion_policy original/bin/python tests/adopt/make_original_fixtures.py tests/adopt/fixtures

Each ``original-*`` has ``stripped.ckpt``, the file that its workspace saved without the weights, which are drawn again
(see ``seeded_weights.py``), ``weights.json``, which says what belongs where, and ``golden.safetensors``: numbers, the
noise, and what diffusion_policy makes of them and of images that are drawn again. With a second argument the whole
``latest.ckpt`` is kept too. This file needs nothing of onestride.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
import zlib
from pathlib import Path

import hydra
import numpy as np
import torch
from diffusion_policy.common.normalize_util import (
    array_to_stats,
    get_identity_normalizer_from_stat,
    get_image_range_normalizer,
    get_range_normalizer_from_stat,
)
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.workspace.base_workspace import BaseWorkspace
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from seeded_weights import drawn, images

BATCH = 2
SMALL = ["policy.down_dims=[8,16]", "policy.diffusion_step_embed_dim=8", "policy.kernel_size=3", "policy.n_groups=4"]
#: What differs between the folders: the configuration, the task, settings, and what is observed where not as the task
#: has it. Of 'original-hybrid-order' numbers and cameras take turns, and its spatial softmax is sharper.
CASES = {
    "original-hybrid": ("train_diffusion_unet_hybrid_workspace", "pusht_image", ["policy.crop_shape=[84,84]"], None),
    "original-hybrid-order": (
        "train_diffusion_unet_ddim_hybrid_workspace", "square_image_abs",
        ["policy.crop_shape=null", "policy.obs_encoder_group_norm=False", "policy.num_inference_steps=5"],
        {"robot0_gripper_qpos": [2], "wrist_image": [3, 33, 40], "robot0_eef_pos": [3], "front_image": [3, 48, 40]},
    ),
    "original-image": (
        "train_diffusion_unet_real_image_workspace", "real_pusht_image",
        ["task.image_shape=[3,60,80]", "policy.obs_encoder.resize_shape=[48,64]", "policy.num_inference_steps=10",
         "policy.obs_encoder.crop_shape=[43,57]"], None,
    ),
    "original-image-shared": (
        "train_diffusion_unet_image_pretrained_workspace", "square_image_abs",
        ["policy.obs_encoder.rgb_model.weights=null", "policy.obs_encoder.resize_shape=[40,44]",
         "policy.obs_encoder.crop_shape=[32,32]", "policy.obs_encoder.use_group_norm=True",
         "policy.noise_scheduler.num_train_timesteps=20", "policy.num_inference_steps=20"],
        {"wrist_image": [3, 33, 40], "robot0_eef_quat": [4], "front_image": [3, 33, 40], "robot0_eef_pos": [3]},
    ),
}  # fmt: skip


def config_of(name: str, task: str, settings: list[str], observed: dict | None) -> DictConfig:
    """A configuration as ``train.py`` resolves it."""
    OmegaConf.register_new_resolver("eval", eval, replace=True)
    OmegaConf.register_new_resolver("now", lambda pattern: "2023.01.01", replace=True)
    places = Path(sys.modules["diffusion_policy.workspace.base_workspace"].__file__).parents[1] / "config"
    with hydra.initialize_config_dir(str(places), version_base=None):
        cfg = hydra.compose(name, [f"task={task}", *SMALL, *settings])
    if observed is not None:
        cfg.task.shape_meta.obs = {
            key: {"shape": shape, **({"type": "rgb"} if len(shape) == 3 else {})} for key, shape in observed.items()
        }
    OmegaConf.resolve(cfg)
    return cfg


def numbers(rng: np.random.Generator, key: str, size: int, rows: int) -> np.ndarray:
    """Numbers as of a data set: pixels, metres, or a quaternion's."""
    if key in ("agent_pos", "robot_eef_pose", "action") and size == 2:
        return rng.uniform(30, 480, (rows, size)).astype(np.float32)
    return rng.uniform(-0.3, 0.7, (rows, size)).astype(np.float32)


def normalizer_of(cfg: DictConfig) -> LinearNormalizer:
    """As the data sets of diffusion_policy make it: limits of actions and positions, quaternions as they are."""
    rng, made = np.random.default_rng(1), LinearNormalizer()
    for key, attr in [*cfg.shape_meta.obs.items(), ("action", cfg.shape_meta.action)]:
        if attr.get("type") == "rgb":
            made[key] = get_image_range_normalizer()
            continue
        stat = array_to_stats(numbers(rng, key, attr.shape[0], 200))
        of = get_identity_normalizer_from_stat if key.endswith("quat") else get_range_normalizer_from_stat
        made[key] = of(stat)
    return made


def policy_of(cfg: DictConfig) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    """A policy whose weights are drawn, and these."""
    policy = hydra.utils.instantiate(cfg.policy).eval()
    state = policy.state_dict()
    kept = ("pos_x", "pos_y", "temperature", "_dummy_variable", "num_batches_tracked")
    weights = drawn({key: value.shape for key, value in state.items() if key.rpartition(".")[2] not in kept})
    state.update({key: torch.from_numpy(value) for key, value in weights.items()})
    for key in state:
        if key.endswith("temperature") and "front_image" in cfg.shape_meta.obs:
            state[key] = torch.full((1,), 0.5)
    policy.load_state_dict(state)
    policy.set_normalizer(normalizer_of(cfg))
    return policy, weights


@torch.no_grad()
def golden(policy, cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Two decisions: the condition, one call of the network, what the sampler draws, the chunk in the data's units."""
    rng, seen = np.random.default_rng(2), {}
    steps = BATCH, cfg.n_obs_steps
    for key, attr in cfg.shape_meta.obs.items():
        if attr.get("type") != "rgb":
            seen[key] = torch.from_numpy(numbers(rng, key, attr.shape[0], BATCH * steps[1])).unflatten(0, steps)
    given = dict(seen)
    for key, attr in cfg.shape_meta.obs.items():
        if attr.get("type") == "rgb":
            drawn_here = images(BATCH * steps[1], tuple(attr.shape[1:]), zlib.crc32(key.encode()))
            given[key] = torch.from_numpy(drawn_here).unflatten(0, steps).movedim(-1, 2).float() / 255
    flat = {key: value.flatten(0, 1) for key, value in policy.normalizer.normalize(given).items()}
    condition = policy.obs_encoder(flat).reshape(BATCH, -1)
    shape, stochastic = (
        (BATCH, cfg.horizon, cfg.shape_meta.action.shape[0]),
        "DDPM" in cfg.policy.noise_scheduler._target_,
    )
    torch.manual_seed(3)
    noise, *step_noise = (torch.randn(shape) for _ in range(policy.num_inference_steps if stochastic else 1))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    chunk = policy.predict_action(given)["action"]
    assert torch.equal(torch.get_rng_state(), after)  # it drew this noise and no other
    t = torch.tensor([7, cfg.policy.noise_scheduler.num_train_timesteps - 1])
    return {
        **seen, "noise": noise, "timesteps": t, "condition": condition, "chunk": chunk,
        "output": policy.model(noise, t, global_cond=condition),
        **({"step_noise": torch.stack(step_noise)} if stochastic else {}),
    }  # fmt: skip


class Workspace(BaseWorkspace):
    """What the original's training saves; the weights that are not averaged are larger by 1."""

    include_keys = ("global_step", "epoch")

    def __init__(self, cfg: DictConfig, policy: torch.nn.Module, weights: dict[str, np.ndarray]) -> None:
        super().__init__(cfg, "outputs")
        self.ema_model, self.global_step, self.epoch = policy, 1234, 5
        self.model = hydra.utils.instantiate(cfg.policy)
        larger = {key: value + 1 if key in weights else value for key, value in policy.state_dict().items()}
        self.model.load_state_dict(larger)
        self.optimizer = torch.optim.AdamW(self.model.parameters())


def strip(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write a checkpoint again without what is drawn, and of each weight its shape and its places in the file.

    The first place is of the averaged weights, the second of those that are larger by 1.
    """
    places = {hashlib.sha256(w.tobytes()).digest(): (k, 0) for k, w in weights.items()}
    places |= {hashlib.sha256((w + 1).tobytes()).digest(): (k, 1) for k, w in weights.items()}
    said: dict[str, list] = {}
    new = path.with_name("stripped.ckpt")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(new, "w") as out:
        for name in whole.namelist():
            raw = whole.read(name)
            key, which = places.get(hashlib.sha256(raw).digest(), (None, 0))
            if key is None:
                out.writestr(zipfile.ZipInfo(name), raw, zipfile.ZIP_DEFLATED)
            else:
                said.setdefault(key, [list(weights[key].shape), "", ""])[1 + which] = name
    path.with_name("weights.json").write_text(json.dumps(said))


def main(out: Path, keep: bool) -> None:
    for name, case in CASES.items():
        folder, cfg = out / name, config_of(*case)
        folder.mkdir(parents=True, exist_ok=True)
        policy, weights = policy_of(cfg)
        found = golden(policy, cfg)
        save_file({key: value.contiguous() for key, value in found.items()}, folder / "golden.safetensors")
        workspace, path = Workspace(cfg, policy, weights), folder / "latest.ckpt"
        workspace.save_checkpoint(path)
        workspace._saving_thread.join()
        strip(path, weights)
        if not keep:
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
