"""Three bodies: their numbers, their shapes in the real environment, and a body that does not wait."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision
from onestride.tasks import TASKS
from onestride.tasks.bodies import BODIES, EPISODE_STEPS
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment

NAMES = [f"{body}-{version}" for body in BODIES for version in ("v5", "v4")]
DT = 0.008  # [s], Hopper's


@pytest.fixture(params=NAMES)
def task(request):
    return TASKS[request.param]()


# ---- what is written down elsewhere ----


@pytest.mark.parametrize(
    ("body", "horizon", "random", "expert"),
    [("halfcheetah", 4, -280.178953, 12135.0), ("walker2d", 32, 1.629008, 4592.3), ("hopper", 32, -20.272305, 3234.3)],
)
def test_horizons_are_the_papers_and_references_d4rls(body, horizon, random, expert):
    for version in ("v4", "v5"):
        task = TASKS[f"{body}-{version}"]()
        assert task.control.horizon == horizon
        assert task.benchmark.normalised(random) == 0
        assert task.benchmark.normalised(expert) == 1
        assert task.benchmark.normalised((random + expert) / 2) == pytest.approx(0.5)


def test_the_name_tells_the_version_and_the_environment_is_of_it(task):
    body, version = task.name.rsplit("-", 1)
    assert task.benchmark.environment == f"{BODIES[body].environment}-{version}"
    assert task.benchmark.environment.lower() == task.name


def test_the_environment_agrees(task):
    env = make_environment(task.benchmark.environment)
    assert env.observation_space.shape == (task.control.observation_dim,) == (task.control.state_dim,)
    assert env.action_space.shape == (task.control.action_dim,)
    np.testing.assert_array_equal(env.action_space.low, task.control.limits.low)
    np.testing.assert_array_equal(env.action_space.high, task.control.limits.high)
    assert env.unwrapped.dt == pytest.approx(task.control.control_dt)
    assert env.spec.max_episode_steps == EPISODE_STEPS
    env.close()


# ---- plans and commands ----


def test_a_row_is_observation_then_action(task):
    control = task.control
    o = torch.randn(5, control.horizon, control.observation_dim)
    a = torch.randn(5, control.horizon, control.action_dim)
    plans, context = task.plan_window(o, a)
    assert plans.shape == (5, control.horizon, control.transition_dim)
    assert context.shape == (5, 0) == (5, task.context_dim)
    assert torch.equal(plans[..., : control.state_dim], o)
    assert torch.equal(plans[..., control.state_dim :], a)
    given = task.encode(o[:, 0])
    assert torch.equal(given.values, plans.flatten(1)[:, task.plans.known_entries])
    assert given.context.shape == (5, 0)
    assert task.plans.starts_with_observation


def test_a_command_is_the_first_action_within_the_limits(task):
    control = task.control
    plans, observation = 3 * torch.randn(50, control.horizon, control.transition_dim), np.zeros(control.observation_dim)
    commands = task.command(plans, None)
    assert torch.equal(commands, plans[:, 0, control.state_dim :].clamp(-1, 1))
    assert all(control.limits.violation(c.double().numpy(), observation) is None for c in commands)


def test_an_observation_of_another_body_or_no_number_is_refused():
    task = TASKS["walker2d-v5"]()
    task.control.validate_observation(np.zeros(17))
    with pytest.raises(ObservationError, match=r"shape \(11,\), expected \(17,\) of walker2d-v5"):
        task.control.validate_observation(np.zeros(11))
    bad = np.zeros(17)
    bad[3] = np.nan
    with pytest.raises(ObservationError, match=r"observation\[3\] is nan; check the sensor"):
        task.control.validate_observation(bad)


def test_it_has_no_selector_no_goal_and_whole_windows(task):
    assert task.score is None
    assert task.padding == "none"
    assert not task.control.goal_reached(np.zeros(task.control.observation_dim))


def test_problems_are_seeds(task):
    assert task.scenes(3, 40) == [40, 41, 42]
    env = make_environment(task.benchmark.environment)
    np.testing.assert_array_equal(task.first_observation(41), env.reset(seed=41)[0])
    env.close()


# ---- a body that moves with the clock ----


def stepped(seed, commands, environment="Hopper-v5"):
    """Observations and rewards of these commands, one a period."""
    env = make_environment(environment)
    observations, rewards = [env.reset(seed=seed)[0]], []
    for command in commands:
        observation, reward, terminated, truncated, _ = env.step(np.asarray(command, np.float32))
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    env.close()
    return np.array(observations), rewards


@pytest.fixture
def clock():
    return ChargedClock()


def commands(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (count, 3))


def test_it_stands_still_until_it_is_told_something(clock):
    robot = GymRobot("Hopper-v5", DT, 7, clock)
    first = robot.read()
    clock.sleep_until(3.0)
    np.testing.assert_array_equal(robot.read(), first)
    assert (robot.steps, robot.total, robot.fault()) == (0, 0.0, None)
    robot.stop()


def test_a_command_a_period_is_an_environment_that_waits(clock):
    robot, sent = GymRobot("Hopper-v5", DT, 7, clock), commands(12)
    seen = [robot.read()]
    for number, command in enumerate(sent, 1):
        robot.write(command)
        clock.sleep_until(number * DT)
        seen.append(robot.read())
    robot.stop()
    observations, rewards = stepped(7, sent)
    np.testing.assert_array_equal(seen, observations)
    assert robot.total == pytest.approx(sum(rewards))


def test_a_late_command_finds_the_body_where_the_stale_one_took_it(clock):
    """Commands every 1, 3 and 2 periods: what is not answered in time is done again."""
    robot, (a, b, c) = GymRobot("Hopper-v5", DT, 7, clock), commands(3)
    robot.write(a)
    clock.sleep_until(1.2 * DT)
    robot.write(b)  # one period has passed
    clock.sleep_until(4.7 * DT)
    np.testing.assert_array_equal(robot.read(), stepped(7, [a, b, b, b])[0][-1])
    clock.sleep_until(6.1 * DT)
    robot.write(c)  # nobody looked in between: b has had its two periods all the same
    clock.sleep_until(8.0 * DT)
    np.testing.assert_array_equal(robot.read(), stepped(7, [a, b, b, b, b, b, c, c])[0][-1])
    assert robot.steps == 8
    robot.stop()


class LateFirstReading(GymRobot):
    """As on wall time, where the thread that reads has to start: a loop's first reading is a moment late."""

    def read(self):
        if self.command is None:
            self.clock.charge(0.05 * self.control_dt)
        return super().read()


def test_an_environment_of_200_steps_takes_200_commands(clock):
    task = TASKS["gym:Pendulum-v1"]()
    dt = task.control.control_dt
    robot = LateFirstReading("Pendulum-v1", dt, 0, clock)
    log = run_episode(robot, clock, Holding(), task.control, timeout=60.0)
    assert (log.outcome, robot.steps, log.executed, log.ticks) == ("time is up", 200, 200, 200)


class Holding:
    """Sends no torque."""

    def decide(self, observation):
        return Decision(np.zeros(1), np.zeros((16, 4)), np.zeros((1, 16, 4)), np.zeros(1), {})


def test_a_fall_is_a_fault_and_the_end(clock):
    task = TASKS["hopper-v5"]()
    robot = task.environment(7, clock)
    command = np.array([1.0, -1.0, 1.0])
    robot.write(command)
    observations, rewards = stepped(7, [command] * 1000)
    assert len(rewards) < 200
    clock.sleep_until(1000 * DT)
    np.testing.assert_array_equal(robot.read(), observations[-1])
    assert robot.fault() == "fell"
    assert robot.steps == len(rewards)
    assert robot.total == pytest.approx(sum(rewards))  # the last reward counts
    robot.write(command)
    clock.sleep_until(2000 * DT)
    robot.read()
    assert robot.steps == len(rewards)
    measured = task.measure(robot, 7)
    assert measured["return_raw"] == robot.total
    assert measured["return_normalised"] == task.benchmark.normalised(robot.total)
    robot.stop()


def test_the_end_of_time_is_another_fault(clock):
    robot = GymRobot("HalfCheetah-v5", 0.05, 0, clock)
    robot.write(np.zeros(6))
    clock.sleep_until(999 * 0.05)
    robot.read()
    assert robot.fault() is None
    clock.sleep_until(1000 * 0.05)
    robot.read()
    assert (robot.fault(), robot.steps) == ("time is up", EPISODE_STEPS)
    robot.stop()


# ---- the loop that drives the arm drives it too ----


class ScriptedClock(ChargedClock):
    """Charges what the test says a decision took, not what it took here."""

    def __init__(self, costs) -> None:
        super().__init__()
        self.costs = iter(costs)

    def charge(self, seconds: float) -> None:
        super().charge(next(self.costs))


class Rocking:
    """Rocks by the body's own posture; remembers what it saw and what it said."""

    def __init__(self) -> None:
        self.seen, self.said = [], []

    def decide(self, observation):
        action = np.tanh(5 * observation[2:5] + 0.1)
        self.seen.append(observation)
        self.said.append(action)
        return Decision(action, np.zeros((32, 14)), np.zeros((1, 32, 14)), np.zeros(1), {})


def drive(costs, seed=7):
    task, policy, clock = TASKS["hopper-v5"](), Rocking(), ScriptedClock(costs)
    robot = task.environment(seed, clock)
    return run_episode(robot, clock, policy, task.control, timeout=8.0), robot, policy


@pytest.mark.parametrize("costs", ["even", "uneven"])
def test_decisions_in_time_are_the_benchmarks_episode(costs):
    """Whether a decision takes a tenth or nine tenths of the period, it is in time, and nothing is lost by it."""
    rng = np.random.default_rng(0)
    log, robot, policy = drive(DT * (np.full(2000, 0.1) if costs == "even" else rng.uniform(0.05, 0.9, 2000)))
    assert log.outcome == "fell"
    assert (log.overruns, log.starved) == (0, 0)
    observations, rewards = stepped(7, policy.said)
    np.testing.assert_array_equal(policy.seen, observations[:-1])
    np.testing.assert_array_equal(log.final_observation, observations[-1])
    assert robot.total == pytest.approx(sum(rewards))


def test_decisions_too_late_leave_it_to_the_stale_command():
    """Each takes two and a half periods: two are done with the command before, the third with the new one."""
    log, robot, policy = drive(iter([0.5 * DT] + [2.5 * DT] * 2000))
    assert log.outcome == "fell"
    assert log.overruns > 0
    done = [policy.said[0]]
    for before, now in zip(policy.said, policy.said[1:], strict=False):
        done += [before, before, now]
    observations, rewards = stepped(7, done)
    for number, seen in enumerate(policy.seen[1:]):
        np.testing.assert_array_equal(seen, observations[1 + 3 * number])
    assert robot.total == pytest.approx(sum(rewards))
    assert robot.steps == len(rewards)
