"""Control interfaces of the cubes, in NumPy alone. ``task.py`` has the tasks.

An observation is OGBench's own of a state, then where every cube is to go. Positions in it are ten times the distance
from ``CENTRE`` in metres. An action is relative, what the gripper is to do in one control period. Each number is a
share of the most that it can: 0.05 m along x, y and z, 0.3 rad about the vertical, and the whole way of its fingers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError, as_they_are, check_numbers
from onestride.robot.limits import Limits

ARM_DIM, CUBE_DIM, GOAL_DIM, ACTION_DIM = 19, 9, 3, 5  # numbers of an observation, and of an action
CENTRE, SCALE = np.array([0.425, 0.0, 0.0]), 10.0  # of positions in an observation
GRIPPER = 12  # from here on its x, y, z, and cosine and sine of its yaw
CONTACT = 18  # how hard a finger is pressed, 0 ... 1
CONTROL_DT = 0.05  # [s]
N_OBS_STEPS, N_ACTION_STEPS, HORIZON = 2, 8, 16
EDGE = 0.04  # of a cube [m]
NEAR = 0.04  # OGBench: a cube is where it is to go within this distance [m]
REACH = np.array([[0.25, -0.35, 0.0], [0.6, 0.35, 0.35]])  # where the gripper can go [m]
KINDS = ("place", "swap", "stack")


@dataclass(frozen=True)
class Cubes:
    """What differs between the tasks.

    Attributes:
        environment: Gymnasium's id.
        cubes: how many there are.
        episode_steps: after how many steps OGBench cuts an episode off.
    """

    environment: str
    cubes: int
    episode_steps: int

    @property
    def observation_dim(self) -> int:
        """Numbers of one observation."""
        return ARM_DIM + (CUBE_DIM + GOAL_DIM) * self.cubes


CUBES = {
    "cube-single": Cubes("onestride/CubeSingle-v0", 1, 200),
    "cube-double": Cubes("onestride/CubeDouble-v0", 2, 500),
}


def positions(observation: np.ndarray, cubes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the cubes are and where they are to go (cubes, 3) [m], by the last of the observations."""
    last = observation[-(ARM_DIM + (CUBE_DIM + GOAL_DIM) * cubes) :]
    at = last[ARM_DIM : ARM_DIM + CUBE_DIM * cubes].reshape(cubes, CUBE_DIM)[:, :3]
    return at / SCALE + CENTRE, last[-GOAL_DIM * cubes :].reshape(cubes, GOAL_DIM) / SCALE + CENTRE


def kind_of(first: np.ndarray, cubes: int) -> str:
    """Return what an episode asks for by its first observation, one of ``KINDS``.

    "stack": one cube onto another. "swap": each to where the other is. "place": anything else.
    """
    at, goals = positions(first, cubes)
    if goals[:, 2].max() > EDGE:
        return "stack"
    swapped = cubes > 1 and (np.linalg.norm(at - goals[::-1], axis=1) <= NEAR).all()
    return "swap" if swapped else "place"


def control_spec(name: str) -> ControlSpec:
    """Return the control interface of the task ``name``, one of ``CUBES``."""
    cubes, size = CUBES[name].cubes, N_OBS_STEPS * CUBES[name].observation_dim
    limits = Limits(-np.ones(ACTION_DIM), np.ones(ACTION_DIM))

    def validate(observation: np.ndarray) -> None:
        check_numbers(observation, size, f" of {name}")
        goals = positions(np.asarray(observation), cubes)[1]
        beyond = np.flatnonzero(((goals < REACH[0] - 1e-6) | (goals > REACH[1] + 1e-6)).any(1))
        if len(beyond):
            raise ObservationError(out_of_reach("cube", int(beyond[0]), goals[beyond[0]]))

    def goal_reached(observation: np.ndarray) -> bool:
        at, goals = positions(observation, cubes)
        return bool((np.linalg.norm(at - goals, axis=1) <= NEAR).all())

    def hold(observation: np.ndarray) -> np.ndarray:
        held = observation[-CUBES[name].observation_dim :][CONTACT] >= 0.1
        return np.array([0.0, 0.0, 0.0, 0.0, float(held)])  # what it has in its fingers it does not drop

    return ControlSpec(
        name=name,
        observation_dim=size,
        n_obs_steps=N_OBS_STEPS,
        n_action_steps=N_ACTION_STEPS,
        state_dim=0,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        validate_observation=validate,
        goal_reached=goal_reached,
        limits=limits,
        commands=lambda plan, _observation: plan.clip(limits.low, limits.high),
        action_columns=as_they_are,
        hold_command=hold,
        layout="twice, the older first: 6 joint angles [rad], 6 velocities [rad/s], the gripper's x, y, z [0.1 m], "
        "cos and sin of its yaw, 3 times its closing, a finger's contact; of each cube x, y, z [0.1 m], quaternion, "
        "cos and sin of its yaw; x, y, z [0.1 m] where each is to go",
    )


def out_of_reach(what: str, number: int, place: np.ndarray) -> str:
    """Return one line about a place (3,) [m] that the gripper cannot go to."""
    (x0, y0, z0), (x1, y1, z1) = REACH
    return (
        f"{what} {number} is to go to {np.round(place, 3).tolist()} m, which is out of reach; expected x {x0} to {x1}, "
        f"y {y0} to {y1}, z {z0} to {z1}"
    )
