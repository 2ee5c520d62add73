"""Planners that learn from much data of one body and little of another, and are asked which one to plan for.

A Diffuser whose plans may be asked for by three numbers, left out by themselves in half of the rows of training and
followed by classifier-free guidance of weight 0.9:

    return     of the window's first step on, discounted by 0.99, a fall costs 100; 0 the least in the data, 1 the most
    dynamics   -1 the source's ... 1 the target's; between them for a body between them    (``methods/dynamics.py``)
    inverse    how far actions are from the target's inverse model, 0 ... 1

A decision asks for [1, 1, 0]. Batches are half source, half target. Beside it what the paper compares it with: the
same planner asked for a return alone, of the source, of the target, of the source and then fine-tuned, and of both;
with a label in place of the score; without the inverse error; and with the inverse model's action in place of its own.

Source: "Off-dynamics Conditional Diffusion Planners". Its guidance has a sign wrong: see ``diffusion/guidance.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from onestride.checkpoint import settings_of
from onestride.methods.diffusion_planner import DIFFUSER, DiffusionPlanner, TeacherConfig
from onestride.methods.dynamics import unit_range
from onestride.methods.method import Group, Method
from onestride.plans.asking import Condition
from onestride.plans.spec import PlanSpec

DISCOUNT, FALL = 0.99, -100.0


def _returns(materials: Sequence[Any]) -> list[Tensor]:
    return [column[:, None] for column in unit_range([each.returns(DISCOUNT, FALL) for each in materials])]


def _scored(name: str) -> Any:
    return lambda materials: [each.scored[name][:, None] for each in materials]


def _labels(materials: Sequence[Any]) -> list[Tensor]:
    """1 of the run's own windows, which come first, 0 of the source's."""
    return [torch.full((len(each.window_source), 1), 1.0 - i) for i, each in enumerate(materials)]


RETURN = Condition("return", 1, _returns, 0.0, 1.0)
DYNAMICS = Condition("dynamics", 1, _scored("dynamics"), -1.0, 1.0)
INVERSE = Condition("inverse", 1, _scored("inverse"), 0.0, 1.0)
LABEL = Condition("label", 1, _labels, 0.0, 1.0)
#: What is asked for where the plan is to be good, the target's, and in keeping with its dynamics.
ASKED = {"return": 1.0, "dynamics": 1.0, "inverse": 0.0, "label": 1.0}


def _planner(name: str, label: str, *conditions: Condition, **fields: Any) -> Method:
    asked = {each.name: ASKED[each.name] for each in conditions}
    made: dict[str, Any] = {"colour": None, "folder": None, "conditions": conditions, "asked": asked} | fields
    return replace(
        DIFFUSER, name=name, label=label, conditional=True, ranked=False, temperatures=((0.5,), (1.0,)),
        config=TeacherConfig(condition_dropout=0.5, condition_weight=0.9), **made,
    )  # fmt: skip


RETURN_DIFFUSER = _planner("return-diffuser", "Diffuser, target alone", RETURN, colour="#999999")
SOURCE_DIFFUSER = _planner("source-diffuser", "Diffuser, source alone", RETURN, domain="source", colour="#009E73")
FINETUNED_DIFFUSER = _planner(
    "finetuned-diffuser", "Diffuser, fine-tuned", RETURN, begins_from="source-diffuser", colour="#CC79A7"
)
JOINT_DIFFUSER = _planner("joint-diffuser", "Diffuser, both (R)", RETURN, domain="both", colour="#E69F00")
LABELLED_DIFFUSER = _planner(
    "labelled-diffuser", "Both, with labels (R+OH)", RETURN, LABEL, domain="both", colour="#56B4E9"
)
OFF_DYNAMICS_SCORE = _planner(
    "off-dynamics-score",
    "Without inverse error (R+DS)",
    RETURN,
    DYNAMICS,
    domain="both",
    contexts=True,
    colour="#0072B2",
)
OFF_DYNAMICS = _planner(
    "off-dynamics", "Off-dynamics (R+DS+ID)", RETURN, DYNAMICS, INVERSE, domain="both", contexts=True, colour="#D55E00"
)


# ---------------------------------------------------------------- the inverse model's action in place of the plan's


@dataclass(frozen=True)
class InverseActionConfig:
    """The inverse model's width, and whose plans it reads: method and settings are filled in from the run."""

    hidden: int = 32
    planner: str = ""
    settings: TeacherConfig = field(default_factory=TeacherConfig)


class InverseActionPlanner(nn.Module):
    """A planner whose first action is what an inverse model says of the plan's first two observations (R+DS+IA).

    Args:
        config: the inverse model's.
        spec: the plans.
    """

    def __init__(self, config: InverseActionConfig, spec: PlanSpec) -> None:
        super().__init__()
        if spec.horizon < 2:
            raise ValueError("an inverse model reads two observations of a plan, and these plans have one row")
        o, a, h = spec.state_dim, spec.action_dim, config.hidden
        self.config, self.state = config, slice(0, o)
        self.planner = DiffusionPlanner(config.settings, spec)
        self.inverse = nn.Sequential(nn.Linear(2 * o, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, a))

    @property
    def conditions(self) -> Any:
        """What its plans may be asked for: the planner's."""
        return self.planner.conditions

    @property
    def nfe(self) -> int:
        """Network calls per decision, the inverse model's included."""
        return self.planner.nfe + 1

    def between(self, plans: Tensor) -> Tensor:
        """Return the actions (B, H - 1, A) between the observations of plans (B, H, D), normalised."""
        seen = plans[..., self.state]
        return self.inverse(torch.cat((seen[:, :-1], seen[:, 1:] - seen[:, :-1]), -1))

    def sample(self, prior: Tensor, context: Tensor | None, **more: Any) -> Tensor:
        """Return the planner's plans (B, H, D), the first action of each replaced."""
        plans = self.planner.sample(prior, context, **more)
        first = torch.cat((plans[:, :1, self.state], self.between(plans[:, :2])), -1)
        return torch.cat((first, plans[:, 1:]), 1)


class InverseActionLearner(nn.Module):
    """Trains the inverse model alone, on the target's windows; the planner before it stays as it was trained."""

    def __init__(self, planner: InverseActionPlanner, taught: DiffusionPlanner) -> None:
        super().__init__()
        planner.planner.load_state_dict(taught.state_dict())
        planner.planner.requires_grad_(False)
        self.deployed = planner

    def groups(self) -> tuple[Group, ...]:
        """Return the inverse model's parameters."""
        return (Group("", list(self.deployed.inverse.parameters())),)

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the squared error of actions (003, eq. 6) on the target's half of {"plans" (B, H, D), "part" (B,)}."""
        del phase, rng
        plans = batch["plans"][batch["part"] == 0]
        return {"loss": (self.deployed.between(plans) - plans[:, :-1, self.deployed.state.stop :]).square().mean()}


def _fitted(config: InverseActionConfig, planner: str, settings: dict[str, Any]) -> InverseActionConfig:
    return replace(config, planner=planner, settings=settings_of(TeacherConfig, settings, planner))


def _learner(planner: nn.Module, taught: nn.Module | None, _config: InverseActionConfig) -> nn.Module:
    assert isinstance(planner, InverseActionPlanner)
    assert isinstance(taught, DiffusionPlanner)
    return InverseActionLearner(planner, taught)


OFF_DYNAMICS_INVERSE_ACTION = replace(
    OFF_DYNAMICS_SCORE, name="off-dynamics-inverse-action", label="Inverse model's action (R+DS+IA)", colour="#F0E442",
    config=InverseActionConfig(), build=InverseActionPlanner, taught_by=lambda _config: "off-dynamics-score-0",
    fitted=_fitted, learner=_learner,
)  # fmt: skip
