"""The fold of OneDP's students: their teacher's network at one noise level."""

from __future__ import annotations

from onestride.engine.affine import Affine
from onestride.engine.fold.consistency import fold_preconditioned
from onestride.engine.fold.parts import Parts, without_noise
from onestride.engine.fold.residual import fold_residual
from onestride.methods.edm import EDMPlanner
from onestride.methods.score_distillation import OneStepStudent
from onestride.networks.mlp import ResidualMLP


def fold_one_step(student: OneStepStudent) -> Parts:
    """Return the network, its last layer saying the plan; of OneDP-D without its columns of noise."""
    planner = student.planner
    if isinstance(planner, EDMPlanner):
        parts = fold_preconditioned(planner.denoiser, student.config.sigma_init)
    else:
        assert isinstance(planner.network, ResidualMLP)
        assert isinstance(student.level, int)
        parts = fold_residual(planner.network, student.level)
        if planner.config.prediction == "eps":  # (x - sigma eps) / alpha
            alpha, sigma = planner.schedule.alpha[student.level], planner.schedule.sigma[student.level]
            last = Affine(parts.last.weight * (-sigma / alpha), parts.last.bias * (-sigma / alpha))
            parts = parts._replace(last=last, skip=1 / alpha)
    if student.noise:
        return parts
    return parts._replace(first=without_noise(parts.first, student.fixed), skip=0.0)
