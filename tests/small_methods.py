"""Everything that is trained, small: what tests of training call it, how it is made, and what it learns from."""

from __future__ import annotations

from dataclasses import asdict

import torch

from onestride import methods as registered
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.edm import EDMConfig, EDMPlanner
from onestride.methods.keyed_drift import KeyedDriftConfig, KeyedDriftPlanner
from onestride.methods.koopman import KoopmanConfig, KoopmanStudent
from onestride.methods.score_distillation import OneStepStudent, ScoreDistillation, ScoreDistillationConfig
from onestride.selectors.iql import IQL, IQLConfig
from onestride.selectors.returns import ReturnConfig, ReturnModel
from plan_specs import spec_of
from toy_training import ROWS, Toy, toy_data


def plan_mask():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, :3] = True
    return mask


def make_teacher(network):
    config = TeacherConfig(network=network, width=16, blocks=1, unet_width=8, unet_multipliers=(1, 2), n_steps=4)
    return DiffusionPlanner(config, spec_of(plan_mask(), 2, 3))


def make_student(**settings):
    return KoopmanStudent(KoopmanConfig(latent_dim=8, hidden=16, gain_hidden=8, **settings), spec_of(plan_mask(), 2, 3))


def make_few_step(name):
    method = registered.METHODS[name]().with_config(width=16, blocks=1)
    generator = method.build(method.config, spec_of(plan_mask(), 2, 3))
    if method.teacher is None:
        return generator
    return method.learner(
        generator, EDMPlanner(EDMConfig(width=16, blocks=1), spec_of(plan_mask(), 2, 3)), method.config
    )


def make_keyed():
    config = KeyedDriftConfig(width=16, blocks=1, samples=2, neighbours=0)
    return KeyedDriftPlanner(config, spec_of(plan_mask(), 2, 3))


def make_distilled(**settings):
    teacher = make_teacher("mlp")
    config = ScoreDistillationConfig(settings=asdict(teacher.config), **settings)
    return ScoreDistillation(OneStepStudent(config, spec_of(plan_mask(), 2, 3)), teacher)


#: That learn from plans alone.
OF_PLANS = ("mlp teacher", "unet teacher", "kdp", "onedp-s", "onedp-d", "cp", "mip", "meanflow")
METHODS = {
    "toy": Toy,
    "mlp teacher": lambda: make_teacher("mlp"),
    "unet teacher": lambda: make_teacher("unet"),
    "dnk": make_student,
    "kdm": lambda: make_student(operator="kdm", latent_noise=0.4, shared_encoder=False),
    "kdm-f": lambda: make_student(operator="kdm-f"),
    "mlp": lambda: make_student(operator="mlp"),
    "kdp": make_keyed,
    "onedp-s": make_distilled,
    "onedp-d": lambda: make_distilled(deterministic=True),
    "cp": lambda: make_few_step("cp"),
    "mip": lambda: make_few_step("mip"),
    "meanflow": lambda: make_few_step("meanflow"),
    "iql": lambda: IQL(IQLConfig(hidden=8, polyak=0.1), 3, 2),
    "returns": lambda: ReturnModel(ReturnConfig(width=16, blocks=1, n_steps=4), spec_of(plan_mask(), 2)),
}


def method_data(name):
    if name == "toy":
        return toy_data()
    g = torch.Generator().manual_seed(0)
    if name == "iql":
        data = {
            k: torch.randn(ROWS, d, generator=g)
            for k, d in (("observation", 3), ("next_observation", 3), ("action", 2))
        }
        return data | {"reward": torch.randn(ROWS, generator=g), "terminated": (torch.arange(ROWS) % 9 == 0).float()}
    data = {"context": torch.randn(ROWS, 2, generator=g)}
    if name == "returns":
        return data | {"plans": torch.randn(ROWS, 4, 5, generator=g), "value": torch.randn(ROWS, generator=g)}
    for column in ("plans",) if name in OF_PLANS else ("prior", "target"):
        data[column] = torch.randn(ROWS, 4, 5, generator=g)
    if name not in OF_PLANS:
        data["weight"] = 1 + torch.rand(ROWS, generator=g)
    return data
