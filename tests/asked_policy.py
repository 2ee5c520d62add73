"""For tests of conditions: a student of random weights whose plans may be asked for."""

from __future__ import annotations

from dataclasses import replace

import torch

from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.tasks import TASKS
from onestride.tasks.task import Condition

SETTINGS = {"operator": "dnk", "latent_dim": 32, "hidden": 48, "gain_hidden": 16}
CONDITIONS = (Condition("return", 1, low=-1.0, high=1.0), Condition("place", 2, low=0.0, high=1.0))


def asked_task():
    return replace(TASKS["halfcheetah-v5"](), conditions=CONDITIONS)


def asked_policy(**settings):
    task = asked_task()
    torch.manual_seed(0)
    generator = make_generator(task, "dnk", SETTINGS)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    generator.conditions.limit({each.name: (each.low, each.high) for each in CONDITIONS})
    normalizer = Normalizer.empty(task.control.transition_dim, 0)
    return Policy(task, generator, normalizer, selector=unselected, **settings)
