"""The changes of bodies in Table I of Off-Dynamics Conditional Diffusion Planners (Ng et al. 2024), and their names.

A name has the stock setting and the changed one: the environment of ``halfcheetah-v5-mass-14-to-7`` is a HalfCheetah of
7 kg, and its source body, whose data are plentiful, is the stock one of 14 kg. An edit changes one thing of the
specification that MuJoCo reads of Gymnasium's XML; what follows from it (masses and inertia of a larger geometry) is
MuJoCo's. Nothing here needs MuJoCo to be installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from onestride.robot.control_spec import ControlSpec
from onestride.tasks.bodies import BODIES, EPISODE_STEPS, Version, control_spec

#: Changes a ``mujoco.MjSpec`` in place.
Edit = Callable[[Any], None]

STOCK_MASS, LIGHTEST = 14.0, 3.0  # total mass of HalfCheetah in Gymnasium's XML, and in the paper's figure 3 [kg]


@dataclass(frozen=True)
class Change:
    """What a body has otherwise than the stock one.

    Attributes:
        body: one of ``BODIES``.
        name: property and settings, such as ``mass-14-to-7``.
        edit: makes the change.
        source: the name of the source body's own change; "": it is the stock body.
        limit: of every command.
        at_step: the body is the stock one for so many steps of an episode, and changed from then on; 0: from the start.
    """

    body: str
    name: str
    edit: Edit
    source: str = ""
    limit: float = 1.0
    at_step: int = 0

    def control_spec(self, version: Version) -> ControlSpec:
        """Return the control interface of its task."""
        return control_spec(self.body, version, f"{self.body}-{version}-{self.name}", -self.limit, self.limit)


# ---------------------------------------------------------------- HalfCheetah


def total_mass(mass: float) -> Edit:
    """Return the edit that scales the masses of all parts to a total of ``mass`` [kg]."""

    def edit(spec: Any) -> None:
        spec.compiler.settotalmass = mass

    return edit


def _torso_radius(spec: Any) -> None:
    """Double the radius of the torso's capsule, not the head's.

    The stock XML scales the masses of all parts to a total of 14 kg, and still does: the torso has a larger share.
    """
    spec.geom("torso").size[0] = 0.092


def _half_the_range(spec: Any) -> None:
    for actuator in spec.actuators:
        actuator.ctrlrange = [-0.5, 0.5]


# ---------------------------------------------------------------- Walker2d


def _gear(ratio: float, *joints: str) -> Edit:
    """Return the edit that sets the gear of the motors at these joints; those of Walker2d have no names."""

    def edit(spec: Any) -> None:
        for actuator in spec.actuators:
            if actuator.target in joints:
                actuator.gear[0] = ratio

    return edit


def _foot_length(spec: Any) -> None:
    """Lengthen both feet's capsules about their middle, so that they reach farther to the front and to the back.

    They are heavier by their volume.
    """
    for foot in ("foot_geom", "foot_left_geom"):
        spec.geom(foot).size[1] = 0.25


# ---------------------------------------------------------------- Hopper


def _foot_friction(spec: Any) -> None:
    spec.geom("foot_geom").friction[0] = 1.7


def _torso_stiffness(spec: Any) -> None:
    """Give the torso's hinge ``rooty`` a spring that turns it upright, of 3 N m/rad.

    The paper says "torso stiffness, 0 → 3" and names no joint. The stock XML writes a stiffness of 0 at the torso's own
    joints alone: two slides and this hinge. Springs at the slides would pull the robot back to where it started, by
    60 N after 20 m. The thigh's joint, by its place the other candidate, is the thigh's, and the XML gives it none.
    """
    joint = spec.joint("rooty")
    joint.stiffness = [3.0, 0.0, 0.0] if np.ndim(joint.stiffness) else 3.0  # MuJoCo 4 has a polynomial, MuJoCo 3 none


def _leg_radius(radius: float) -> Edit:
    """Return the edit that sets the radius of the leg's capsule [m]; its mass follows from its volume."""

    def edit(spec: Any) -> None:
        spec.geom("leg_geom").size[0] = radius

    return edit


#: The nine of the paper. Hopper's leg has a radius of 0.04 in Gymnasium and D4RL, and the paper's source body one of
#: 0.03: its direction, 0.03 → 0.04, has the stock body as its target, and needs data of a thinner source body.
CHANGES = (
    Change("halfcheetah", "mass-14-to-7", total_mass(7.0)),
    Change("halfcheetah", "torso-size-0.046-to-0.092", _torso_radius),
    Change("halfcheetah", "control-range-1-to-0.5", _half_the_range, limit=0.5),
    Change("walker2d", "thigh-action-on-to-off", _gear(0.0, "thigh_joint", "thigh_left_joint")),
    Change("walker2d", "foot-gear-100-to-70", _gear(70.0, "foot_joint", "foot_left_joint")),
    Change("walker2d", "foot-length-0.1-to-0.25", _foot_length),
    Change("hopper", "foot-friction-2.0-to-1.7", _foot_friction),
    Change("hopper", "torso-stiffness-0-to-3", _torso_stiffness),
    Change("hopper", "leg-size-0.04-to-0.03", _leg_radius(0.03)),
    Change("hopper", "leg-size-0.03-to-0.04", _leg_radius(0.04), source="leg-size-0.03"),
    Change("hopper", "leg-size-0.03", _leg_radius(0.03)),
)
_BY_NAME = {(change.body, change.name): change for change in CHANGES}
#: Tasks of v5; those of v4 are known by their names too.
NAMES = tuple(f"{change.body}-v5-{change.name}" for change in CHANGES)

_NAME = re.compile(rf"({'|'.join(BODIES)})-(v4|v5)-(.+)")
_MASS = re.compile(r"mass-14-to-([^-]*)(?:-at-(.*))?")


def find(name: str) -> tuple[Change, Version] | None:
    """Return the change and Gymnasium's version that a task's name says, or None for a name of something else.

    Besides ``CHANGES`` these are any total mass from 3 to 14 kg, ``halfcheetah-v5-mass-14-to-8.5``, and a payload that
    changes in the middle of an episode, ``halfcheetah-v5-mass-14-to-7-at-500``.

    Raises:
        ValueError: a mass or a step out of range, or written otherwise than Python writes it.
    """
    said = _NAME.fullmatch(name)
    if said is None:
        return None
    body, what, version = said[1], said[3], cast(Version, said[2])
    if (body, what) in _BY_NAME:
        return _BY_NAME[body, what], version
    if body != "halfcheetah" or (numbers := _MASS.fullmatch(what)) is None:
        return None
    mass, step = numbers.groups()
    change = Change("halfcheetah", what, total_mass(_mass(mass, name)))
    return (change if step is None else replace(change, at_step=_step(step, name))), version


def is_modified(name: str) -> bool:
    """Return whether a name is of a modified body, be its numbers in range or not."""
    try:
        return find(name) is not None
    except ValueError:
        return True


def source_of(name: str) -> str:
    """Return the task of a modified body's source: ``halfcheetah-v5`` of ``halfcheetah-v5-mass-14-to-7``.

    Raises:
        ValueError: the name is of no modified body, or its numbers are out of range.
    """
    found = find(name)
    if found is None:
        raise ValueError(f"'{name}' is no task of a modified body; there are: {', '.join(NAMES)}")
    change, version = found
    return "-".join(filter(None, (change.body, version, change.source)))


def _mass(text: str, name: str) -> float:
    plain = re.fullmatch(r"\d+(\.\d+)?", text) is not None
    if not plain or not LIGHTEST <= float(text) <= STOCK_MASS or f"{float(text):g}" != text:
        raise ValueError(
            f"task '{name}': its mass is '{text}', expected a number from {LIGHTEST:g} to {STOCK_MASS:g} [kg] without "
            "zeros at its ends, such as halfcheetah-v5-mass-14-to-8.5"
        )
    return float(text)


def _step(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) < EPISODE_STEPS or str(int(text)) != text:
        raise ValueError(
            f"task '{name}': the mass changes at step '{text}', expected a whole number from 1 to {EPISODE_STEPS - 1}"
        )
    return int(text)
