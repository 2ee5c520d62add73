"""Make what the tests of adopting CleanDiffuser's policies hold them against, by CleanDiffuser's own code.

CleanDiffuser is on no package index that has its Diffusion Policy; a checkout of 05f17fc in the path is enough:

    python3.11 -m venv clean && clean/bin/pip install torch torchvision einops numba "zarr<3" scipy safetensors
    PYTHONPATH=CleanDiffuser clean/bin/python tests/adopt/make_cleandiffuser_fixtures.py tests/adopt/fixtures

Each ``cleandiffuser-*`` has ``shapes.json`` in place of the file that ``DDPM.save`` writes (see ``seeded_weights.py``),
``data.npz``, the episodes by which it is normalised, and ``golden.safetensors``: observations, the noise, and what
CleanDiffuser makes of them. With a second argument the files are kept too. This file needs nothing of onestride.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from cleandiffuser.dataset.dataset_utils import MinMaxNormalizer
from cleandiffuser.diffusion.ddpm import DDPM
from cleandiffuser.nn_condition import IdentityCondition
from cleandiffuser.nn_diffusion import ChiUNet1d
from safetensors.torch import save_file
from seeded_weights import drawn

BATCH, HORIZON, OBS, ACTIONS, STEPS = 2, 16, 2, 8, 40
#: What differs between the folders: whether keypoints are seen, noise levels, and the network, as its pipelines make it
#: but for its size. Keypoints have the limits of x, and those of y, in common; without them each number has its
#: own, and one of them never changes.
CASES = {
    "cleandiffuser-numbers": (False, 5, {"model_dim": 32, "emb_dim": 16, "dim_mult": [1, 2]}),
    "cleandiffuser-keypoints": (True, 50, {"model_dim": 32, "emb_dim": 8, "dim_mult": [1, 1, 2], "kernel_size": 3}),
}


def episodes(keypoints: bool) -> dict[str, np.ndarray]:
    """Two episodes of so many steps on a field of 512 px, as arrays. A terminal ends each, so that all rows count."""
    rng = np.random.default_rng(1)
    seen = rng.uniform(20, 490, (2 * STEPS, 20 if keypoints else 18)).astype(np.float32)
    if not keypoints:
        seen[:, 4] = 256.0
    ends = np.zeros(2 * STEPS, np.float32)
    ends[[STEPS - 4, -1]] = 1  # of unequal length: equal ones would count as cut off
    return {
        "observations": seen, "actions": rng.uniform(10, 500, (2 * STEPS, 2)).astype(np.float32),
        "rewards": np.zeros(2 * STEPS, np.float32), "terminals": ends,
    }  # fmt: skip


def normalised(data: dict[str, np.ndarray], observations: np.ndarray, keypoints: bool) -> np.ndarray:
    """Observations (B, 2, O) as the policy gets them, in the way of CleanDiffuser's data sets of PushT."""
    if not keypoints:
        return MinMaxNormalizer(data["observations"]).normalize(observations)
    shape = observations.shape[:-1]
    of_points = MinMaxNormalizer(data["observations"][:, :18].reshape(-1, 9, 2))
    of_agent = MinMaxNormalizer(data["observations"][:, 18:])
    points = of_points.normalize(observations[..., :18].reshape(-1, 2)).reshape(*shape, 18)
    return np.concatenate((points, of_agent.normalize(observations[..., 18:])), -1)


@torch.no_grad()
def golden(agent: DDPM, data: dict[str, np.ndarray], keypoints: bool, levels: int) -> dict[str, torch.Tensor]:
    """Two decisions: the noise that the sampler draws, one call of the network, the chunk in pixels (B, 8, 2)."""
    rng = np.random.default_rng(2)
    observations = rng.uniform(20, 490, (BATCH, OBS, data["observations"].shape[1])).astype(np.float32)
    condition = torch.from_numpy(normalised(data, observations, keypoints)).flatten(1)
    torch.manual_seed(3)
    noise, *step_noise = (torch.randn(BATCH, HORIZON, 2) for _ in range(levels))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    chunk, _ = agent.sample(
        prior=torch.zeros(BATCH, HORIZON, 2), n_samples=BATCH, sample_steps=levels, condition_cfg=condition, w_cfg=1.0,
        use_ema=True,
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), after)  # it drew this noise and no other
    actions = MinMaxNormalizer(data["actions"]).unnormalize(chunk.numpy())
    t = torch.tensor([levels // 2, levels - 1])
    return {
        "observations": torch.from_numpy(observations), "noise": noise, "step_noise": torch.stack(step_noise),
        "timesteps": t, "output": agent.model_ema["diffusion"](noise, t, condition),
        "chunk": torch.from_numpy(actions[:, OBS - 1 : OBS - 1 + ACTIONS]),
    }  # fmt: skip


def main(out: Path, keep: bool) -> None:
    for name, (keypoints, levels, settings) in CASES.items():
        folder, data = out / name, episodes(keypoints)
        folder.mkdir(parents=True, exist_ok=True)
        network = ChiUNet1d(
            2, data["observations"].shape[1], OBS, obs_as_global_cond=True, timestep_emb_type="positional", **settings
        )
        bound = torch.ones(1, HORIZON, 2)
        agent = DDPM(network, IdentityCondition(dropout=0.0), diffusion_steps=levels, x_max=bound, x_min=-bound)
        shapes = {key: list(value.shape) for key, value in agent.model_ema.state_dict().items()}
        agent.model_ema.load_state_dict({key: torch.from_numpy(value) for key, value in drawn(shapes).items()})
        agent.eval()
        found = golden(agent, data, keypoints, levels)
        save_file({key: value.contiguous() for key, value in found.items()}, folder / "golden.safetensors")
        np.savez_compressed(folder / "data.npz", **data)
        (folder / "shapes.json").write_text(json.dumps(shapes))
        if keep:
            agent.save(folder / "model_final.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
