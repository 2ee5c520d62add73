"""A planner that LeRobot trains: a method of onestride that learns from windows of a data set, without a teacher.

LeRobot's processors normalise, so that observations, plans and committed actions here are normalised.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import torch
from lerobot.utils.constants import ACTION
from onestride.checkpoint import settings_of
from onestride.methods import METHODS
from onestride.methods.building import build_generator
from onestride.methods.method import Method
from onestride.methods.prefixed import PrefixedPlanner
from onestride.methods.sighted import IMAGE, SightedPlanner
from onestride.networks.vision import VisionConfig
from onestride.plans.spec import PlanSpec
from torch import Tensor, nn

from lerobot_policy_onestride.configuration_onestride import OneStrideConfig
from lerobot_policy_onestride.observations import Observed, sizes_of


def learns_from_windows(method: Method) -> bool:
    """Return whether a method learns from windows alone: without a teacher, a critic, or a schedule of its own."""
    more = (
        method.teacher, method.taught_by, method.learner, method.critic, method.columns, method.begins_from,
        method.scheduled, method.conditions,
    )  # fmt: skip
    return method.needs == "windows" and method.domain == "own" and not any(more)


def method_of(name: str) -> Method:
    """Return the method that LeRobot is to train.

    Raises:
        ValueError: there is none of this name, or it needs more than windows of a data set.
    """
    if name not in METHODS:
        raise METHODS.unknown(name)
    method = METHODS[name]()
    if not learns_from_windows(method):
        fitting = [each for each in METHODS if learns_from_windows(METHODS[each]())]
        raise ValueError(
            f"method '{name}' learns from more than a data set's windows: train it with `onestride train {name}` and "
            f"export it. LeRobot can train {', '.join(fitting)}"
        )
    return method


class LearnedPlanner(nn.Module):
    """A generator that is trained, and the average of its weights, which acts.

    Args:
        config: with the features that are observed and done.

    Raises:
        ValueError: the method cannot be trained by LeRobot, or a setting or a feature's shape is none of it.
    """

    updates: Tensor

    def __init__(self, config: OneStrideConfig) -> None:
        super().__init__()
        method = method_of(config.method)
        settings = settings_of(type(method.config), method_settings(method, config), "--policy.settings")
        if method.neighbours(settings)[0]:
            raise ValueError(
                f"method '{method.name}' learns from neighbours, which LeRobot's batches do not have; give "
                "--policy.settings='{\"neighbours\": 0}'"
            )
        assert config.action_feature is not None
        (self.action_dim,) = config.action_feature.shape
        numbers, cameras = sizes_of(config.input_features or {})
        if not numbers:
            raise ValueError("the policy needs observation.state or observation.environment_state to learn from")
        self.n_obs_steps, self.horizon, self.longest_prefix = config.n_obs_steps, config.horizon, config.prefix
        self.n_action_steps = max(config.horizon // 2, 1)
        self.control_dt = None if config.fps is None else 1 / config.fps
        self.numbers, self.cameras = sum(numbers.values()), cameras
        spec = PlanSpec(
            horizon=config.horizon,
            state_dim=0,
            action_dim=self.action_dim,
            context_dim=config.n_obs_steps * self.numbers,
            known=(),
            prefix=config.prefix,
        )
        vision = settings_of(VisionConfig, config.vision, "--policy.vision")
        self.generator = build_generator(
            method, settings, spec, cameras=cameras, n_obs_steps=config.n_obs_steps, vision=vision
        )
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.decay = config.ema_decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def loss(self, observed: Observed, actions: Tensor) -> dict[str, Tensor]:
        """Return the method's loss, and what else it says of a step.

        Args:
            observed: ``n_obs_steps`` of each.
            actions: of the plans (B, H, A).

        Raises:
            ValueError: they are of other sizes.
        """
        if actions.shape[1:] != (self.horizon, self.action_dim):
            raise ValueError(
                f"'{ACTION}' has shape {tuple(actions.shape)}, expected (B, {self.horizon}, {self.action_dim})"
            )
        images = {f"{IMAGE}{name}": image for name, image in self._images(observed).items()}
        batch = {"plans": actions, "context": self._context(observed), **images}
        return self.generator.training_step(batch, rng_of(actions.device))

    def average(self) -> None:
        """Take the weights of one more training step into their average."""
        step = int(self.updates)
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, now in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            for mean, now in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
                mean.copy_(now)
        self.updates += 1

    def chunk(self, observed: Observed, committed: Tensor | None, noise: Tensor | None) -> Tensor:
        """Return the plans (B, H, A) for observations.

        Args:
            observed: ``n_obs_steps`` of each.
            committed: the first of their actions (n, A), which are sent whatever is decided, or None.
            noise: that plans are made of (B, H, A); None: LeRobot's generator of random numbers draws it.

        Raises:
            ValueError: they are of other sizes.
        """
        acting = self.averaged if self.updates else self.generator  # a loop without `update` has no average
        context = self._context(observed)
        shape, device = (len(context), self.horizon, self.action_dim), context.device
        if noise is None:
            noise = torch.randn(shape, device=device)
        if noise.shape != shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}, expected {shape}")
        if isinstance(acting, PrefixedPlanner):
            prefix = context.new_full((1, self.longest_prefix, self.action_dim), torch.nan)
            if committed is not None:
                prefix[0, : len(committed)] = committed
            context = acting.embed(context, prefix)
        elif isinstance(acting, SightedPlanner):
            context = acting.embed(context, self._images(observed))
        return acting.sample(noise, context, generator=rng_of(device))

    def _context(self, observed: Observed) -> Tensor:
        numbers = observed.numbers
        if numbers.shape[1:] != (self.n_obs_steps, self.numbers):
            raise ValueError(
                f"observations are {tuple(numbers.shape)}, expected (B, {self.n_obs_steps}, {self.numbers}): "
                "observations, and numbers of each"
            )
        return numbers.flatten(1)

    def _images(self, observed: Observed) -> dict[str, Tensor]:
        """The images that the policy learns from, of all that there are."""
        for name, size in self.cameras.items():
            found = tuple(observed.images[name].shape[2:4]) if name in observed.images else "none"
            if found != size:
                raise ValueError(f"images of camera '{name}' are {found}, expected {size} [px, height and width]")
        return {name: observed.images[name] for name in self.cameras}


def method_settings(method: Method, config: OneStrideConfig) -> dict[str, Any]:
    """Return a method's settings as JSON gives them: its defaults, and what the configuration says instead."""
    return {**asdict(method.config), **config.settings}


def rng_of(device: torch.device) -> torch.Generator:
    """Return the device's own generator of random numbers, which LeRobot seeds."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index if device.index is not None else torch.cuda.current_device()]
    return torch.default_generator
