"""PushT's control interface: NumPy alone."""

from __future__ import annotations

import numpy as np

from onestride.robot.control_spec import ControlSpec, check_numbers
from onestride.robot.limits import Limits

SIZE = 512.0  # width of the field [px]
STEP_DIM = 18  # agent x, y and the T's 8 corners
CONTROL_DT = 0.1  # [s]
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
        goal_reached=lambda _observation: False,
        limits=Limits(low, high),
        commands=lambda plan, _observation: plan.clip(low, high),
        hold_command=lambda observation: observation[-STEP_DIM:][:2].clip(low, high),
        frozen_after=np.inf,  # the T and the agent may rightly stand still
        example=np.full(size, SIZE / 2),
        layout="twice, the older first: agent x, y, then x, y of the T's 8 corners [px]",
    )
