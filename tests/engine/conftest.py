"""Policies nobody trained, of every kind that folds, and what the plain policy does, written out."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinds import METHOD_OF, wrap
from onestride.networks.normalizer import Normalizer
from onestride.plans.given import make_prior
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.selectors.store import make_selector_model
from onestride.tasks import TASKS
from onestride.tasks.kinova.task import first_observation

CHEETAH = TASKS["halfcheetah-v5"]()
NOISE_SAYER = {"width": 24, "blocks": 2, "n_steps": 100, "schedule": "squared-cosine", "prediction": "eps"}
SIZES = {
    "teacher": {"width": 32, "blocks": 1, "n_steps": 4},
    "student": {"latent_dim": 16, "hidden": 24, "gain_hidden": 8},
    "consistency": {"width": 24, "blocks": 2},
    "kdp": {"width": 24, "blocks": 2},
    "onedp-s": {"planner": "dp", "settings": NOISE_SAYER},
    "onedp-d": {"planner": "dp", "settings": NOISE_SAYER},
    "cp": {"width": 24, "blocks": 2},
    "meanflow": {"width": 24, "blocks": 2},
    "mip": {"width": 24, "blocks": 2},
    "cloning": {"hidden": 24, "layers": 3},
    "flow actor": {"hidden": 24, "layers": 3},
}
MODELS = {
    "iql": {"hidden": 16},
    "returns": {"width": 16, "blocks": 2, "n_steps": 4},
    "returns-unet": {"network": "unet", "unet_width": 8, "unet_multipliers": (1, 2), "n_steps": 4},
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(module, by=0.1):
    """Past the zeros that some layers start with."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(by * normal(*p.shape, seed=i))
    return module


def normalizer(seed, dim=CHEETAH.control.transition_dim):
    none, one = torch.zeros(0), torch.ones(0)
    return Normalizer(0.3 * normal(dim, seed=seed), normal(dim, seed=seed + 1).abs() + 0.5, none, one)


def learned(kind, task=CHEETAH):
    torch.manual_seed(1)
    model = make_selector_model(kind.split("-")[0], MODELS[kind], task)
    return wrap(moved(model), normalizer(11), task.control)  # another normaliser than the generator's


def cheetah_policy(kind="student", *, selector="iql", sampling=None, horizon=4, candidates=16, seed=0, **settings):
    torch.manual_seed(seed)
    task = CHEETAH.with_control(horizon=horizon)
    generator = moved(make_generator(task, METHOD_OF.get(kind, kind), SIZES.get(kind, {}) | settings))
    chosen = learned(selector, task) if isinstance(selector, str) else selector
    if sampling is not None:
        chosen.options = replace(chosen.options, **vars(sampling))
    return Policy(task, generator, normalizer(3), selector=chosen, candidates=candidates)


@pytest.fixture(scope="session")
def make():
    """kind, selector, ... -> a policy of HalfCheetah."""
    return cheetah_policy


@pytest.fixture(scope="session")
def reference():
    return plain


@pytest.fixture
def observations():
    return normal(6, CHEETAH.control.observation_dim, seed=7).double().numpy()


@torch.no_grad()
def plain(policy, observations, noise, dtype=torch.float64):
    """Observations (B, .) and noise (B, N, H, D) through every line of the plain policy, batched, in ``dtype``.

    Returns actions (B, A) and scores (B, N), winners (B,), plans (B, N, H, D).
    """
    generator, scales = copy.deepcopy(policy.generator).to(dtype), copy.deepcopy(policy.normalizer).to(dtype)
    selector = policy.selector
    if isinstance(selector, torch.nn.Module):
        selector = copy.deepcopy(selector).to(dtype)
    rows = torch.as_tensor(np.asarray(observations)).to(dtype)
    b, n = noise.shape[:2]
    given = policy.task.encode(rows)
    values = scales.entries(given.values, policy.known).repeat_interleave(n, 0)
    temperature = policy.temperature.to(dtype).repeat(b)
    prior = make_prior(noise.to(dtype).flatten(0, 1), temperature, values, policy.known)
    context = scales.context(given.context).repeat_interleave(n, 0)
    plans = scales.unnormalize(generator.sample(prior, context)).view(b, n, *noise.shape[2:])
    scores = selector(plans, rows, given.frame) - (
        0 if policy.score_penalty is None else policy.score_penalty.to(dtype)
    )
    winners = scores.argmax(1)
    return policy.task.command(plans[torch.arange(b), winners], given.frame), scores, winners, plans


@pytest.fixture(scope="session")
def arm_rows(arm_scenes):
    """count -> what the arm may read (count, 41): anywhere on the way to a goal, moving."""
    rng = np.random.default_rng(5)

    def rows(count):
        made = np.stack([first_observation(arm_scenes[i % len(arm_scenes)]) for i in range(count)])
        made[:, :3] += rng.uniform(0, 1, (count, 1)) * (made[:, 6:9] - made[:, :3])
        made[:, 3:6] = 0.05 * rng.normal(size=(count, 3))
        return made

    return rows
