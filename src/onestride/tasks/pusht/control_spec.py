"""PushT's control interface: NumPy alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onestride.robot.control_spec import ControlSpec, as_they_are, check_numbers, no_goal
from onestride.robot.fields import Field, camera
from onestride.robot.limits import Limits

SIZE = 512.0  # width of the field [px]
STEP_DIM = 18  # agent x, y and the T's 8 corners
CONTROL_DT = 0.1  # [s]
#: An observation of the task with a camera: the field from above, and where the agent is.
IMAGE_FIELDS = (Field("agent", (2,), "px"), camera("top", 96, 96))
N_OBS_STEPS, N_ACTION_STEPS, HORIZON, ACTION_DIM = 2, 8, 16, 2


def control_spec() -> ControlSpec:
    """Return PushT's control interface: a decision is about two observations, and eight of its commands are sent."""
    size = N_OBS_STEPS * STEP_DIM
    low, high = np.zeros(ACTION_DIM), np.full(ACTION_DIM, SIZE)
    return ControlSpec(
        name="pusht",
        observation_dim=size,
        n_obs_steps=N_OBS_STEPS,
        n_action_steps=N_ACTION_STEPS,
        state_dim=0,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        validate_observation=lambda observation: check_numbers(observation, size, " of pusht"),
        goal_reached=no_goal,
        limits=Limits(low, high),
        commands=lambda plan, _observation: plan.clip(low, high),
        action_columns=as_they_are,
        hold_command=lambda observation: observation[-STEP_DIM:][:2].clip(low, high),
        frozen_after=np.inf,  # the T and the agent may rightly stand still
        named=(Field("agent", (2,), "px"), Field("corners", (8, 2), "px")),
        example=np.full(size, SIZE / 2),
        layout="twice, the older first: agent x, y, then x, y of the T's 8 corners [px]",
    )


def image_control_spec() -> ControlSpec:
    """Return the control interface of PushT that is seen by a camera: the same commands, another observation."""
    step = sum(field.size for field in IMAGE_FIELDS)
    size = N_OBS_STEPS * step
    return replace(
        control_spec(),
        name="pusht-image",
        observation_dim=size,
        fields=IMAGE_FIELDS,
        named=(),
        validate_observation=lambda observation: check_numbers(observation, size, " of pusht-image"),
        hold_command=lambda observation: observation[-step:][:2].clip(0.0, SIZE),
        example=np.full(size, 128.0),
        layout="twice, the older first: agent x, y [px], then an image (96, 96, 3) of the field, RGB, 0 to 255",
    )
