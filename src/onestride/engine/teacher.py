"""The teacher at its best on a CPU: all its network calls as one ONNX graph, for a fair comparison with its students.

What every call computes again is computed once: the share of context and of the fixed entries in the first layer, and
the scales and shifts that the noise index gives, which become the gains of the layer normalisations. A guided teacher
needs a gradient at every step, which no graph has: it is run as it is.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.diffusion.samplers import noisy_steps, plan_steps, sample, x0_from_eps
from onestride.engine.affine import affine, dense, split_columns
from onestride.engine.fold.guided import refuse_guided
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.residual import film_at
from onestride.engine.graph import write_module
from onestride.engine.runners import OnnxRunner
from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.methods.guided import GuidedPlanner
from onestride.networks.mlp import ResidualMLP


class Unrolled(nn.Module):
    """``forward(prior (N, H, D), context (1, C), noise (noisy steps, N, H, D))`` -> plans (N, H, D), normalised.

    The same plans as the planner's own ``sample``, with its solver and its steps. All candidates have the same
    observation.

    Raises:
        NoEngineError: the planner is guided, or its network is no residual MLP.
    """

    fixed: Tensor
    film: Tensor

    @torch.no_grad()
    def __init__(self, planner: DiffusionPlanner) -> None:
        super().__init__()
        if isinstance(planner, GuidedPlanner):
            refuse_guided(planner)
        network, self.planner_config, self.schedule = planner.network, planner.config, planner.schedule
        if not isinstance(network, ResidualMLP):
            raise NoEngineError(f"only a residual MLP is unrolled, this teacher is a {type(network).__name__}")
        self.free_from = int(planner.fixed.sum())
        known, free = split_columns(affine(network.input), self.free_from)
        self.known, self.free = dense(known).to(network.input.weight), dense(free).to(network.input.weight)
        self.context, self.output = network.context, network.output
        self.expand, self.contract, self.width = network.expand, network.contract, network.width
        config = self.planner_config
        steps = plan_steps(self.schedule, config.solver, config.sample_steps, config.spacing)
        self.row = {step.k: i for i, step in enumerate(steps)}
        film = [film_at(network, network.features[step.k : step.k + 1]) for step in steps]
        self.register_buffer("film", torch.stack(film))  # (steps, 2 blocks + 2, W)
        self.register_buffer("fixed", planner.fixed)

    def forward(self, prior: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        known = self.known(prior[:1].flatten(1)[:, : self.free_from])
        if self.context is not None:
            known = known + self.context(context)
        config = self.planner_config
        return sample(
            lambda x, k: self._denoise(x, k, known),
            prior,
            self.fixed,
            self.schedule,
            solver=config.solver,
            steps=config.sample_steps,
            spacing=config.spacing,
            clip=config.clip,
            noise=noise,
        )

    def _denoise(self, x: Tensor, k: int, known: Tensor) -> Tensor:
        film = self.film[self.row[k]]
        h = F.linear(x.flatten(1)[:, self.free_from :], self.free.weight) + known
        for i, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            h = h + contract(F.silu(expand(F.layer_norm(h, (self.width,), film[2 * i], film[2 * i + 1]))))
        output = self.output(F.layer_norm(h, (self.width,), film[-2], film[-1])).view_as(x)
        if self.planner_config.prediction == "x0":
            return output
        return x0_from_eps(x, output, self.schedule.alpha[k], self.schedule.sigma[k])


class OnnxPlanner(nn.Module):
    """A generator: the planner's plans from its unrolled graph, for one observation's candidates at a time.

    Raises:
        NoEngineError: as ``Unrolled``.
        ImportError: the export extra is not installed.
    """

    def __init__(self, planner: DiffusionPlanner, candidates: int, context_dim: int, threads: int = 1) -> None:
        super().__init__()
        self.config, self.nfe = planner.config, planner.nfe
        unrolled = Unrolled(planner).eval()
        config = planner.config
        noisy = noisy_steps(unrolled.schedule, config.solver, config.sample_steps, config.spacing)
        prior = torch.zeros(candidates, *unrolled.fixed.shape)
        self.noise = torch.zeros(noisy, *prior.shape)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "teacher.onnx"
            example = (prior, torch.zeros(1, context_dim), self.noise)
            write_module(unrolled, example, ("prior", "context", "noise"), ("plans",), path)
            self.runner = OnnxRunner(path.read_bytes(), threads)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """As the planner's own, of as many priors as it was made for, all with the same observation."""
        for z in self.noise:
            torch.randn(z.shape, generator=generator, out=z)
        given = {"prior": prior.numpy(), "noise": self.noise.numpy()}
        if context is not None:
            given["context"] = context.numpy()
        return torch.from_numpy(self.runner.give(given)["plans"])
