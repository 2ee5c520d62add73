"""Gymnasium's bodies with an edited model, under Gymnasium ids that begin with ``onestride/`` once this is imported.

Everything but the model is Gymnasium's: rewards, falls, starts, observations.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from onestride.tasks.bodies import BODIES, EPISODE_STEPS, Version
from onestride.tasks.lockstep import quiet
from onestride.tasks.modified_bodies.variants import CHANGES, LIGHTEST, STOCK_MASS, Change, find
from onestride.tasks.physics import mujoco

PREFIX = "onestride/"
#: What an edit must leave as it is: sizes of state and command, and the time of a step.
KEPT = ("nq", "nv", "na", "nu", "opt.timestep")

#: Changes by the tasks' names, of this process.
_CHANGES: dict[str, tuple[Change, Version]] = {}


def registered(task: str, change: Change, version: Version) -> str:
    """Register the environment of a task's modified body, or what it is by now, and return Gymnasium's id."""
    environment = f"{PREFIX}{BODIES[change.body].environment}-{change.name}-{version}"
    _CHANGES[task] = change, version
    if environment not in gymnasium.registry:
        maker = f"{__name__}:{make_modified.__name__}"
        gymnasium.register(environment, maker, max_episode_steps=EPISODE_STEPS, kwargs={"task": task})
    return environment


def make_modified(task: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """Return the environment of a modified body without a limit of time. ``gymnasium.make`` calls this.

    Args:
        task: its name. In a process that has not made it, it is looked up among all tasks.
        settings: of Gymnasium's environment, such as ``render_mode``.

    Raises:
        ValueError: there is no such task, or MuJoCo refuses the body. The message says why.
    """
    if task not in _CHANGES:
        from onestride.tasks import TASKS

        TASKS[TASKS.resolve(task)]()
    change, version = _CHANGES[task]
    stock: Any = load_env_creator(str(gymnasium.spec(f"{BODIES[change.body].environment}-{version}").entry_point))
    if change.at_step:
        return PayloadChange(stock(**settings), task, change)

    class Modified(stock):
        def _initialize_simulation(self) -> tuple[Any, Any]:
            usual, _ = super()._initialize_simulation()
            model = edited(self.fullpath, usual, task, change)
            return model, mujoco.MjData(model)

    return Modified(**settings)


def edited(path: str, stock: Any, task: str, change: Change) -> Any:
    """Return the model of an XML after a change.

    Args:
        path: of the XML.
        stock: its model without the change, of which the size of pictures is taken.
        task: whose body it is, for messages.
        change: of the specification.

    Raises:
        ValueError: MuJoCo refuses it, it has no part that the edit names, or it is a robot of other sizes.
    """
    with quiet():
        spec = mujoco.MjSpec.from_file(path)
        try:
            change.edit(spec)
            model = spec.compile()
        except AttributeError as error:
            if error.obj is not None:
                raise
            parts = ", ".join(f"{what} {_names(spec, what)}" for what in ("bodies", "geoms", "joints"))
            raise ValueError(
                f"the body of task '{task}' cannot be made: its edit asks for a part that is not there ({error}); "
                f"there are {parts}"
            ) from error
        except ValueError as error:
            raise ValueError(f"the body of task '{task}' cannot be made: {' '.join(str(error).split())}") from error
    for name in KEPT:
        before, after = _field(stock, name), _field(model, name)
        if before != after:
            raise ValueError(
                f"the body of task '{task}' has {name} {after} instead of {before}: a robot of other sizes or another "
                "rate is no modified body; write a task of its own (docs/your-task.md)"
            )
    picture, usual = model.vis.global_, stock.vis.global_
    picture.offwidth, picture.offheight = usual.offwidth, usual.offheight
    return model


class PayloadChange(gymnasium.Wrapper):
    """A body whose masses change in the middle of every episode; its position and velocity go on.

    Args:
        env: of the stock body.
        task: its name.
        change: of masses alone, with the step of an episode (0, 1, ...) that is the first with them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task: str, change: Change) -> None:
        super().__init__(env)
        body: Any = env.unwrapped
        self.model, self.at_step, self.steps = body.model, change.at_step, 0
        changed = edited(body.fullpath, self.model, task, change)
        self.after = {name: _field(changed, name) for name in differing(self.model, changed)}
        self.before = {name: np.array(_field(self.model, name)) for name in self.after}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the stock masses."""
        self._put(self.before)
        self.steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step, from ``at_step`` on with the changed masses."""
        if self.steps == self.at_step:
            self._put(self.after)
        self.steps += 1
        return self.env.step(action)

    def _put(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            owner, _, field = name.rpartition(".")
            of = getattr(self.model, owner) if owner else self.model
            if isinstance(now := getattr(of, field), np.ndarray):
                now[:] = value
            else:
                setattr(of, field, float(value))


def differing(model: Any, other: Any) -> list[str]:
    """Return the fields in which two models of one size differ; those of statistics are called ``stat.meanmass``."""
    parts = (f"{part}.{name}" for part in ("opt", "stat") for name in _numbers(getattr(model, part)))
    names = [*_numbers(model), *parts]
    return [name for name in names if not np.array_equal(_field(model, name), _field(other, name))]


def _numbers(record: Any) -> list[str]:
    names = (name for name in dir(record) if not name.startswith("_"))
    return [name for name in names if isinstance(getattr(record, name), np.ndarray | int | float)]


def _field(model: Any, name: str) -> Any:
    for part in name.split("."):
        model = getattr(model, part)
    return model


def _names(spec: Any, what: str) -> str:
    return " ".join(part.name for part in getattr(spec, what) if part.name)


def _register_built_in() -> None:
    masses = (("halfcheetah", f"mass-14-to-{mass}") for mass in range(int(LIGHTEST), int(STOCK_MASS) + 1))
    for body, what in (*((change.body, change.name) for change in CHANGES), *masses):
        for version in ("v4", "v5"):
            if (found := find(name := f"{body}-{version}-{what}")) is not None:
                registered(name, *found)


_register_built_in()
