"""Adroit pen, door, hammer and relocate: Gymnasium-Robotics' environments with D4RL's scores.

A plan's row is [observation | action] in the environment's own units, and there is no context. An episode is a success
as the authors of the tasks count it (Rajeswaran et al. 2018, DAPG): the goal is achieved in more than 25 of its steps,
in more than 20 for the pen. That a step achieves the goal is read from its reward, whose bonus for it is the largest:
an episode keeps no ``info``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from onestride.data.episode import Episode
from onestride.errors import naming_extras
from onestride.tasks.adroit.control_spec import HANDS, control_spec
from onestride.tasks.gym import GymRobot, plain_task
from onestride.tasks.metric import Metric
from onestride.tasks.task import Benchmark, Task

PEN = "adroit-pen"
PEN_STEPS = 100  # of an episode of D4RL's pen
PEN_HEIGHT = 26  # which number of the pen's observation is its height [m]
DROPPED = 0.075  # a pen below this height is dropped, which ends D4RL's episode [m]

SUCCESS = Metric("success", "success", digits=0, kind="share", spread=False, better="higher")
REACHED = Metric("reached", "goal reached", digits=0, kind="share", spread=False, better="higher")
PEN_RETURN = Metric("pen_return_100", "return in D4RL's 100 steps", digits=4, better="higher")

SUCCESS_NOTE = (
    "success: the goal is achieved in more than {held} of an episode's 200 steps, as the tasks' authors count (DAPG); "
    "goal reached: in at least one."
)
PEN_NOTE = (
    "D4RL's reference returns of the pen are of episodes of 100 steps that end when the pen is dropped. These go on "
    "for 200: an expert's return is about 3. The return in D4RL's 100 steps is cut as D4RL's are."
)
REWARD_NOTE = (
    "Gymnasium-Robotics' {environment} adds a tenth of the hand's distance from its object to the reward, which D4RL "
    "takes off: some points of thousands in an episode's return."
)


def adroit(name: str) -> Task:
    """Return the task ``name``, one of ``HANDS``.

    Raises:
        ModuleNotFoundError: Gymnasium-Robotics is not installed. The message says how to install it.
    """
    with naming_extras():
        import gymnasium_robotics
    gymnasium.register_envs(gymnasium_robotics)
    hand = HANDS[name]
    notes = (
        SUCCESS_NOTE.format(held=hand.held_steps),
        PEN_NOTE if name == PEN else REWARD_NOTE.format(environment=hand.environment),
    )
    task = plain_task(control_spec(name), Benchmark(hand.environment, hand.random, hand.expert), terminates=False)

    def measure(robot: GymRobot, seed: int) -> dict[str, Any]:
        return {**task.measure(robot, seed), "reached": float(robot.best > hand.achieved)}

    return replace(
        task,
        measure=measure,
        measure_episode=partial(measure_episode, name),
        metrics=(*task.metrics, SUCCESS, REACHED, *((PEN_RETURN,) if name == PEN else ())),
        notes=notes,
    )


def measure_episode(name: str, episode: Episode) -> dict[str, float]:
    """Return whether an episode of the task ``name`` is a success, and whether it reached the goal at all.

    Of the pen also its normalised return as D4RL's episodes are cut.
    """
    hand = HANDS[name]
    achieved = int((episode.rewards > hand.achieved).sum())
    measured = {"success": float(achieved > hand.held_steps), "reached": float(achieved > 0)}
    if name == PEN:
        dropped = np.flatnonzero(episode.observations[1:, PEN_HEIGHT] < DROPPED)
        last = min(PEN_STEPS, *(dropped[:1] + 1).tolist(), len(episode))
        total = float(episode.rewards[:last].astype(np.float64).sum())
        measured[PEN_RETURN.name] = Benchmark(hand.environment, hand.random, hand.expert).normalised(total)
    return measured
