"""The teacher at its best on a CPU: all its network calls as one ONNX graph, for a fair comparison with its students.

What every call computes again is computed once: the share of context and of the fixed entries in the first layer, and
the scales and shifts that the noise index gives, which become the gains of the layer normalisations. The gradient that
guides a teacher is written out, so that nothing needs autograd.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.diffusion.samplers import noisy_steps, plan_steps, sample, x0_from_eps
from onestride.engine.affine import affine, apart, dense
from onestride.engine.graph import write_module
from onestride.engine.runners import OnnxRunner
from onestride.engine.trunk import ReduceError, film_at
from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.methods.guided import GuidedPlanner
from onestride.networks.mlp import ResidualMLP


class Unrolled(nn.Module):
    """``forward(prior (N, H, D), context (1, C), noise (noisy steps, N, H, D))`` -> plans (N, H, D), normalised.

    The same plans as the planner's own ``sample``, with its solver, its steps and its guidance. All candidates have
    the same observation.

    Raises:
        ReduceError: a network is no residual MLP.
    """

    fixed: Tensor
    film: Tensor

    @torch.no_grad()
    def __init__(self, planner: DiffusionPlanner | GuidedPlanner) -> None:
        super().__init__()
        self.slope, self.weight = None, 0.0
        if isinstance(planner, GuidedPlanner):
            self.slope, self.weight, planner = Slope(planner), planner.weight, planner.planner
        network, self.planner_config, self.schedule = planner.network, planner.config, planner.schedule
        if not isinstance(network, ResidualMLP):
            raise ReduceError(f"only a residual MLP is unrolled, this teacher is a {type(network).__name__}")
        self.free_from = int(planner.fixed.sum())
        known, free = apart(affine(network.input), self.free_from)
        self.known, self.free = dense(known).to(network.input.weight), dense(free).to(network.input.weight)
        self.context, self.output = network.context, network.output
        self.expand, self.contract, self.width = network.expand, network.contract, network.width
        steps = plan_steps(self.schedule, self.planner_config.solver, self.planner_config.sample_steps)
        self.row = {step.k: i for i, step in enumerate(steps)}
        film = [film_at(network, network.features[step.k : step.k + 1]) for step in steps]
        self.register_buffer("film", torch.stack(film))  # (steps, 2 blocks + 2, W)
        self.register_buffer("fixed", planner.fixed)

    def forward(self, prior: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        known = self.known(prior[:1].flatten(1)[:, : self.free_from])
        if self.context is not None:
            known = known + self.context(context)
        uphill = self.slope.known(prior, context) if self.slope is not None else known
        config = self.planner_config
        return sample(
            lambda x, k: self._guided(x, k, known, uphill),
            prior,
            self.fixed,
            self.schedule,
            solver=config.solver,
            steps=config.sample_steps,
            noise=noise,
        )

    def _guided(self, x: Tensor, k: int, known: Tensor, uphill: Tensor) -> Tensor:
        x0 = self._denoise(x, k, known)
        if self.slope is None:
            return x0
        scale = self.weight * self.schedule.sigma[k] ** 2 / self.schedule.alpha[k]
        return torch.add(x0, self.slope(x, k, uphill), alpha=scale)

    def _denoise(self, x: Tensor, k: int, known: Tensor) -> Tensor:
        film = self.film[self.row[k]]
        h = F.linear(x.flatten(1)[:, self.free_from :], self.free.weight) + known
        for i, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            h = h + contract(F.silu(expand(F.layer_norm(h, (self.width,), film[2 * i], film[2 * i + 1]))))
        output = self.output(F.layer_norm(h, (self.width,), film[-2], film[-1])).view_as(x)
        if self.planner_config.prediction == "x0":
            return output
        return x0_from_eps(x, output, self.schedule.alpha[k], self.schedule.sigma[k])


class Slope(nn.Module):
    """d value / d x of a return model that is a residual MLP, ``ReturnModel.gradient`` without autograd.

    ``forward(x (N, H, D), k, known (1, W))`` -> (N, H, D); fixed entries, which no step moves, have 0.
    """

    film: Tensor

    def __init__(self, guided: GuidedPlanner) -> None:
        super().__init__()
        network = guided.returns.network
        if not isinstance(network, ResidualMLP):
            raise ReduceError(f"only a residual MLP is unrolled, this return model is a {type(network).__name__}")
        self.free_from, self.width = int(guided.planner.fixed.sum()), network.width
        known, free = apart(affine(network.input), self.free_from)
        self.start, self.free = dense(known).to(network.input.weight), dense(free).to(network.input.weight)
        self.context, self.output = network.context, network.output
        self.expand, self.contract = network.expand, network.contract
        film = [film_at(network, features[None]) for features in network.features]
        self.register_buffer("film", torch.stack(film))  # (n_steps + 1, 2 blocks + 2, W)

    def known(self, prior: Tensor, context: Tensor) -> Tensor:
        """What fixed entries and context add to the first layer, (1, W)."""
        known = self.start(prior[:1].flatten(1)[:, : self.free_from])
        return known if self.context is None else known + self.context(context)

    def forward(self, x: Tensor, k: int, known: Tensor) -> Tensor:
        film = self.film[k]
        h = F.linear(x.flatten(1)[:, self.free_from :], self.free.weight) + known
        kept = []
        for i, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            y, _, scale = torch.native_layer_norm(h, (self.width,), None, None, 1e-5)
            a = expand(torch.addcmul(film[2 * i + 1], y, film[2 * i]))
            kept.append((y, scale, a))
            h = h + contract(F.silu(a))
        y, _, scale = torch.native_layer_norm(h, (self.width,), None, None, 1e-5)
        g = _through_norm(self.output.weight * film[-2], y, scale)
        for i in reversed(range(len(kept))):
            (y, scale, a), expand, contract = kept[i], self.expand[i], self.contract[i]
            assert isinstance(expand, nn.Linear)
            assert isinstance(contract, nn.Linear)
            s = torch.sigmoid(a)
            bent = (g @ contract.weight) * (s * (1 + a * (1 - s)))  # back through the SiLU
            g = g + _through_norm((bent @ expand.weight) * film[2 * i], y, scale)
        return F.pad(g @ self.free.weight, (self.free_from, 0)).view_as(x)


def _through_norm(g: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Back through ``y = (h - mean) scale``: d/dh of what has gradient g at y."""
    return scale * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))


class OnnxPlanner(nn.Module):
    """A generator: the planner's plans from its unrolled graph, for one observation's candidates at a time.

    Raises:
        ReduceError: a network is no residual MLP.
        ImportError: the export extra is not installed.
    """

    def __init__(
        self, planner: DiffusionPlanner | GuidedPlanner, candidates: int, context_dim: int, threads: int = 1
    ) -> None:
        super().__init__()
        self.config, self.nfe = planner.config, planner.nfe
        unrolled = Unrolled(planner).eval()
        noisy = noisy_steps(unrolled.schedule, planner.config.solver, planner.config.sample_steps)
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
