"""A demonstrator for PushT: it draws pushes, simulates them all, and does one of the best.

A push goes from the agent round the block to a point in front of one of its edges, and then straight on. Which of the
good pushes is done is drawn, so that the demonstrations from one start differ. Lengths are in pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.data.frames import with_images
from onestride.robot.control_spec import ControlSpec
from onestride.tasks.pusht.environment import ID, IMAGE_ID, SIZE
from onestride.tasks.pusht.simulation import Simulation, State, read_state

VERSION = 1
EPISODES_PER_CHUNK = 8
RADIUS = 15.0  # of the agent
#: The block in its own frame: bar and stem, each (low x, low y, high x, high y). (2, 4)
BOXES = np.array([[-60.0, 0.0, 60.0, 30.0], [-15.0, 30.0, 15.0, 120.0]])
#: Its outline, with the inside on the left of each edge. (8, 2)
OUTLINE = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], dtype=np.float64
)
TOUCH = RADIUS + 2.0  # a way leads no nearer than this past the boxes' sides
CORNER = RADIUS + 6.0  # a way turns at corners of boxes that are larger by this
WALLED_IN = 8  # draws after which an agent with too few ways goes straight, and moves the block aside
BORDER = 4.0  # a way stays this far inside the field


@dataclass(frozen=True)
class PlannerConfig:
    """How pushes are drawn and chosen.

    Attributes:
        candidates: pushes that are simulated for each decision.
        angle: largest angle between a push and the edge's normal [deg].
        shortest: smallest length of a push beyond the first touch [px].
        reach: largest length of a push, as a multiple of the error.
        slowest: smallest distance between two actions [px].
        fastest: largest one [px].
        run_up: distance from the start of a push to the first touch [px].
        hold: steps for which the last action is repeated, so that the agent comes to rest.
        price: error that a step more must save [px].
        temperature: of the softmax over costs, as a multiple of the error.
    """

    candidates: int = 48
    angle: float = 20.0
    shortest: float = 1.0
    reach: float = 2.2
    slowest: float = 18.0
    fastest: float = 32.0
    run_up: float = 8.0
    hold: int = 2
    price: float = 0.1
    temperature: float = 0.01


class Planner:
    """Draws, simulates and chooses pushes. It keeps nothing between decisions."""

    def __init__(self, config: PlannerConfig) -> None:
        self.config = config
        self.simulation = Simulation()

    def actions(self, state: State, rng: np.random.Generator) -> np.ndarray:
        """Return the actions (K, 2) of one push from ``state``, rounded to float32."""
        c, simulation = self.config, self.simulation
        simulation.set_state(state)
        error = simulation.error()
        pushes = draw_pushes(state, error, c, rng)
        costs = np.empty(len(pushes))
        for i, push in enumerate(pushes):
            simulation.set_state(state)
            for action in push.tolist():
                simulation.step(action)
            costs[i] = simulation.error() + c.price * len(push)
        weights = np.exp((costs.min() - costs) / (c.temperature * error))
        return pushes[rng.choice(len(pushes), p=weights / weights.sum())]


def draw_pushes(state: State, error: float, config: PlannerConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the actions (K, 2) of each of ``config.candidates`` pushes from ``state``.

    Starts are reached round the block. An agent between the block and a wall may reach none: then it goes straight.

    Args:
        state: of agent and block.
        error: mean distance of the block's corners from the goal [px].
        config: of the planner.
        rng: all that is drawn comes from it.
    """
    pushes: list[np.ndarray] = []
    agent = to_block(np.array([state.agent]), state)
    draw = 0
    while len(pushes) < config.candidates:
        touch, direction = _draw_touches(2 * config.candidates, config, rng)
        starts = touch - config.run_up * direction
        longest = max(config.reach * error, 2 * config.shortest)
        length = np.exp(rng.uniform(math.log(config.shortest), math.log(longest), len(touch)))
        ends = touch + length[:, None] * direction
        speeds = rng.uniform(config.slowest, config.fastest, len(touch))
        free = _inside_field(starts, state) & _inside_field(ends, state) & ~_in_boxes(starts, TOUCH).any(1)
        ways = paths_round_block(agent[0], starts[free], state)
        for way, start, end, speed in zip(ways, starts[free], ends[free], speeds[free], strict=True):
            if way is None:
                if draw < WALLED_IN:
                    continue
                way = np.array([agent[0], start])  # straight, whatever is there
            points = resample(np.concatenate((way, end[None])), speed)
            points = np.concatenate((points, np.repeat(points[-1:], config.hold, 0)))
            pushes.append(to_field(points, state).clip(0.0, SIZE).astype(np.float32))
        draw += 1
    return pushes[: config.candidates]


def _draw_touches(count: int, config: PlannerConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where the agent first touches the block, and the unit directions of pushes, in its frame (count, 2)."""
    along = np.roll(OUTLINE, -1, 0) - OUTLINE
    lengths = np.linalg.norm(along, axis=1)
    edge = rng.choice(len(OUTLINE), count, p=lengths / lengths.sum())
    tangent = along[edge] / lengths[edge, None]
    normal = np.stack((-tangent[:, 1], tangent[:, 0]), 1)  # to the inside
    turn = np.deg2rad(rng.uniform(-config.angle, config.angle, count))[:, None]
    point = OUTLINE[edge] + rng.uniform(0, 1, count)[:, None] * along[edge]
    return point - RADIUS * normal, np.cos(turn) * normal + np.sin(turn) * tangent


# ---- ways round the block, in its frame ----


def to_block(points: np.ndarray, state: State) -> np.ndarray:
    """Return points (N, 2) of the field in the block's frame."""
    return (points - state.block) @ _rotation(state.angle)


def to_field(points: np.ndarray, state: State) -> np.ndarray:
    """Return points (N, 2) of the block's frame in the field's."""
    return points @ _rotation(state.angle).T + state.block


def _rotation(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _grown(margin: float) -> np.ndarray:
    return BOXES + margin * np.array([-1.0, -1.0, 1.0, 1.0])


def _in_boxes(points: np.ndarray, margin: float) -> np.ndarray:
    """Return whether each point (N, 2) is in each box grown by ``margin`` (N, 2)."""
    boxes = _grown(margin)
    return np.all((points[:, None] > boxes[:, :2]) & (points[:, None] < boxes[:, 2:]), axis=-1)


def _corners() -> np.ndarray:
    x0, y0, x1, y1 = _grown(CORNER).T
    corners = np.stack((np.stack((x0, x1, x1, x0), 1), np.stack((y0, y0, y1, y1), 1)), -1).reshape(-1, 2)
    return corners[~_in_boxes(corners, CORNER).any(1)]


def _inside_field(points: np.ndarray, state: State) -> np.ndarray:
    there = to_field(points, state)
    return np.all((there > BORDER) & (there < SIZE - BORDER), axis=1)


def clear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return whether the segment from each of ``a`` (M, 2) to each of ``b`` (N, 2) misses the grown boxes (M, N)."""
    boxes = _grown(TOUCH)
    offset = (b - a[:, None])[:, :, None]  # (M, N, 1, 2)
    offset = np.where(np.abs(offset) < 1e-9, 1e-9, offset)
    low, high = (boxes[:, :2] - a[:, None, None]) / offset, (boxes[:, 2:] - a[:, None, None]) / offset  # (M, N, 2, 2)
    enters, leaves = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    return ((enters >= leaves) | (leaves <= 0) | (enters >= 1)).all(-1)


CORNERS = _corners()  # (6, 2)
#: Lengths of clear segments between corners, infinite where there is none. (6, 6)
GAPS = np.where(clear(CORNERS, CORNERS), np.linalg.norm(CORNERS[:, None] - CORNERS[None], axis=-1), np.inf)


def paths_round_block(agent: np.ndarray, ends: np.ndarray, state: State) -> list[np.ndarray | None]:
    """Return the shortest way (K, 2) from ``agent`` (2,) to each of ``ends`` (N, 2), or None where there is none.

    All are in the block's frame. A way is clear of the block and turns only inside the field. Where the agent touches
    the block, it leaves it first by the nearest side.
    """
    first = [agent]
    if _in_boxes(agent[None], TOUCH).any():
        first.append(_way_out(agent))
    here = first[-1]
    inside = _inside_field(CORNERS, state)
    usable = np.where(inside[:, None] & inside[None], GAPS, np.inf)
    reach = np.where(clear(here[None], CORNERS)[0] & inside, np.linalg.norm(CORNERS - here, axis=1), np.inf)
    before = np.full(len(CORNERS), -1)
    for _ in range(len(CORNERS) - 1):  # Bellman and Ford's
        by = reach[:, None] + usable
        shorter = by.min(0) < reach
        before = np.where(shorter, by.argmin(0), before)
        reach = np.minimum(reach, by.min(0))
    last = np.where(clear(CORNERS, ends), np.linalg.norm(CORNERS[:, None] - ends, axis=-1), np.inf) + reach[:, None]
    direct = clear(here[None], ends)[0]
    ways: list[np.ndarray | None] = []
    for i, end in enumerate(ends):
        turns: list[np.ndarray] = []
        if not direct[i]:
            corner = int(last[:, i].argmin())
            if not np.isfinite(last[corner, i]):
                ways.append(None)
                continue
            while corner >= 0:
                turns.insert(0, CORNERS[corner])
                corner = int(before[corner])
        ways.append(np.array([*first, *turns, end]))
    return ways


def _way_out(point: np.ndarray) -> np.ndarray:
    """Return the nearest point (2,) outside the grown boxes that is straight across one of their sides."""
    x, y = point
    x0, y0, x1, y1 = _grown(CORNER).T
    across = np.concatenate(
        [np.stack((a, np.full(2, y)), 1) for a in (x0, x1)] + [np.stack((np.full(2, x), a), 1) for a in (y0, y1)]
    )
    across = across[~_in_boxes(across, TOUCH).any(1)]
    return across[np.linalg.norm(across - point, axis=1).argmin()]


def resample(path: np.ndarray, spacing: float) -> np.ndarray:
    """Return points (K, 2) every ``spacing`` along a path of corners (N, 2), without its first and with its last."""
    length = np.concatenate(([0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()))
    at = np.linspace(0.0, length[-1], max(math.ceil(length[-1] / spacing), 1) + 1)[1:]
    return np.stack([np.interp(at, length, path[:, i]) for i in range(2)], 1)


# ---- episodes ----


def demonstrate(
    env: gymnasium.Env[Any, Any], planner: Planner, start: int, rng: np.random.Generator
) -> tuple[Episode, bool]:
    """Return one episode of the planner in ``env``, and whether the block came to the goal.

    Args:
        env: ``onestride/PushT-v0``, or the one with images.
        planner: of the pushes.
        start: the environment's seed.
        rng: of the planner.
    """
    observation, _ = env.reset(seed=start)
    observations, actions, rewards = [observation], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        for action in planner.actions(read_state(env), rng):
            observation, reward, terminated, truncated, _ = env.step(action)
            observations.append(observation)
            actions.append(action)
            rewards.append(reward)
            if terminated or truncated:
                break
    arrays = np.stack(observations), np.stack(actions), np.array(rewards, dtype=np.float32)
    return Episode(*arrays, terminated=bool(terminated), truncated=bool(truncated)), bool(terminated)


def chunk(
    seed: int, number: int, config: PlannerConfig | None = None, spec: ControlSpec | None = None
) -> tuple[list[Episode], Counter[str]]:
    """Return the solved episodes of one chunk of starts, and counts. Depends on its arguments alone.

    spec: of the task with a camera, for episodes with images; they are otherwise the same.

    An episode that is not solved in the environment's 300 steps is refused. Starts have seeds above 2^32, so that no
    evaluation with a small seed begins where a demonstration did.
    """
    planner = Planner(config or PlannerConfig())
    env = gymnasium.make(ID if spec is None else IMAGE_ID)
    episodes: list[Episode] = []
    counts: Counter[str] = Counter({"starts": EPISODES_PER_CHUNK})
    for i in range(EPISODES_PER_CHUNK):
        rng = np.random.default_rng((seed, number, i))
        episode, solved = demonstrate(env, planner, int(rng.integers(2**32, 2**62)), rng)
        if solved:
            episodes.append(episode if spec is None else with_images(episode, spec))
        else:
            counts["refused: not solved in time"] += 1
    env.close()
    return episodes, counts


def metadata(task: str = "pusht") -> dict[str, Any]:
    """Return what the data depend on besides the seed, for the dataset and every result."""
    version = {"generator": "pushes", "generator_version": VERSION}
    return {"task": task, **version, "planner": asdict(PlannerConfig())}


def action_space() -> Box:
    """Return the space of the agent's targets [px]."""
    return Box(0.0, SIZE, (2,), np.float32)
