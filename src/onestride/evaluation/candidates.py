"""Candidates before any selector, at states of an environment: how they spread, and how far the teacher's are."""

from __future__ import annotations

import torch

from onestride.evaluation.metrics import effective_dimensions
from onestride.methods.settings import solver
from onestride.policy.embedding import embedded
from onestride.policy.policy import Policy


def measure_candidates(policy: Policy, teacher: Policy, observations: torch.Tensor, seed: int) -> dict[str, float]:
    """Return what candidates at observations (B, O) are like, and the teacher's from the same noise if it plans as far.

    action_spread: standard deviation of first actions over candidates, normalised. teacher_distance: root mean square
    distance of first actions. plan_spread: standard deviation of all entries of a plan that are not given.
    plan_dimensions: in how many directions these spread.
    """
    plans = candidates_at(policy, observations, seed)
    mine = plans[:, :, 0, policy.control.state_dim :]  # first actions
    made = {"action_spread": float(mine.std(1).mean())}
    if policy.control.horizon != teacher.control.horizon:
        return made
    # The same noise, also where it is scaled otherwise, or where a decision of the teacher draws another number.
    teacher.candidates, teacher.temperature = policy.candidates, policy.temperature
    theirs = candidates_at(teacher, observations, seed)[:, :, 0, policy.control.state_dim :]
    free = plans[:, :, ~policy.fixed]  # what a generator has to say, (B, N, entries)
    return made | {
        "teacher_distance": float((mine - theirs).square().mean().sqrt()),
        "plan_spread": float(free.std(1).mean()),
        "plan_dimensions": float(effective_dimensions(free).mean()),
    }


@torch.inference_mode()
def candidates_at(policy: Policy, rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Return candidates (B, N, H, D) at observations (B, O), normalised, without a sampler's own noise."""
    policy = policy.with_settings(solver("ddim"))
    policy.reset(seed)
    start, prior = policy.encode(rows)
    context = embedded(policy.generator, policy.normalizer.context(start.context), start.images)
    context = context.repeat_interleave(policy.candidates, 0)
    flat = policy.generator.sample(prior.flatten(0, 1), context)
    return flat.view_as(prior)
