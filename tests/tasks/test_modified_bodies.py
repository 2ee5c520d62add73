"""Modified bodies: the compiled model is the stock one but for what the name says; the rest is Gymnasium's."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from onestride.reports.render import RenderError, render_body
from onestride.tasks import TASKS
from onestride.tasks.bodies import BODIES, EPISODE_STEPS
from onestride.tasks.lockstep import Lockstep, make_environment
from onestride.tasks.modified_bodies.variants import NAMES

MASSES = {
    "body_mass", "body_subtreemass", "body_inertia", "body_invweight0", "dof_M0", "dof_invweight0", "actuator_acc0",
    "stat.meanmass", "stat.meaninertia",
}  # fmt: skip
#: What follows from another size of a part besides its mass: how far it reaches, and where the whole body's centre is.
SIZES = {
    *MASSES, "geom_size", "geom_rbound", "geom_aabb", "bvh_aabb", "dof_length", "cam_poscom0", "light_poscom0",
    "stat.meansize",
}  # fmt: skip
#: Every field of the compiled model that is not the stock one's.
DIFFERENT = {
    "halfcheetah-v5-mass-14-to-7": MASSES,
    # The head is a part of the torso, and has a smaller share of it.
    "halfcheetah-v5-torso-size-0.046-to-0.092": SIZES | {"body_ipos", "body_iquat"},
    "halfcheetah-v5-control-range-1-to-0.5": {"actuator_ctrlrange"},
    "walker2d-v5-thigh-action-on-to-off": {"actuator_gear", "actuator_acc0"},
    "walker2d-v5-foot-gear-100-to-70": {"actuator_gear", "actuator_acc0"},
    "walker2d-v5-foot-length-0.1-to-0.25": SIZES,
    "hopper-v5-foot-friction-2.0-to-1.7": {"geom_friction"},
    "hopper-v5-torso-stiffness-0-to-3": {"jnt_stiffness"},
    "hopper-v5-leg-size-0.04-to-0.03": SIZES,
    "hopper-v5-leg-size-0.03-to-0.04": set(),
    "hopper-v5-leg-size-0.03": SIZES,
}
EVERY = [name.replace("v5", version) for name in NAMES for version in ("v5", "v4")]


def stock(name):
    """The environment's id of the stock body."""
    body, version = name.split("-")[:2]
    return f"{BODIES[body].environment}-{version}"


def model_of(environment):
    env = make_environment(environment)
    env.close()
    return env.unwrapped.model


def models(name):
    """The stock body's compiled model and the modified one's."""
    return model_of(stock(name)), model_of(TASKS[name]().benchmark.environment)


def fields(model):
    """All that a compiled model says: arrays, numbers, names."""
    found = {}
    for prefix, record in (("", model), ("stat.", model.stat), ("opt.", model.opt), ("vis.", model.vis.global_)):
        names = [name for name in dir(record) if not name.startswith("_")]
        values = {prefix + name: getattr(record, name) for name in names}
        found |= {name: v for name, v in values.items() if isinstance(v, np.ndarray | int | float | bytes)}
    return found


def changed(before, after):
    """The names of fields that differ."""
    before, after = fields(before), fields(after)
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


# ---- numbers of the models ----


@pytest.mark.parametrize("name", EVERY)
def test_nothing_but_what_the_name_says_is_changed(name):
    before, after = models(name)
    assert len(fields(before)) > 500
    assert changed(before, after) == DIFFERENT[name.replace("v4", "v5")]


def test_an_edit_of_nothing_is_gymnasiums_own_model():
    """Also where the XML is read by MjSpec, and not by MjModel."""
    assert changed(*models("halfcheetah-v5-mass-14-to-14")) == set()


@pytest.mark.parametrize("mass", ["3", "7", "8.5", "13.25"])
def test_all_masses_are_scaled_to_the_total(mass):
    before, after = models(f"halfcheetah-v5-mass-14-to-{mass}")
    assert before.body_mass.sum() == pytest.approx(14, rel=1e-12)
    assert after.body_mass.sum() == pytest.approx(float(mass), rel=1e-12)
    np.testing.assert_allclose(after.body_mass, before.body_mass * float(mass) / 14, rtol=1e-12)
    np.testing.assert_allclose(after.body_inertia, before.body_inertia * float(mass) / 14, rtol=1e-12)


def test_the_torso_is_twice_as_thick_and_the_whole_as_heavy():
    before, after = models("halfcheetah-v5-torso-size-0.046-to-0.092")
    torso = before.geom("torso").id
    wanted = before.geom_size.copy()
    wanted[torso, 0] *= 2
    assert before.geom_size[torso, 0] == 0.046
    np.testing.assert_array_equal(after.geom_size, wanted)
    assert after.body_mass.sum() == pytest.approx(14, rel=1e-12)
    assert after.body("torso").mass > 1.5 * before.body("torso").mass
    others = slice(before.body("torso").id + 1, None)
    np.testing.assert_allclose(np.ptp(after.body_mass[others] / before.body_mass[others]), 0, atol=1e-12)


def test_half_the_range_of_control_is_the_environments_and_the_tasks():
    before, after = models(name := "halfcheetah-v5-control-range-1-to-0.5")
    np.testing.assert_array_equal(before.actuator_ctrlrange, [[-1, 1]] * 6)
    np.testing.assert_array_equal(after.actuator_ctrlrange, [[-0.5, 0.5]] * 6)
    task = TASKS[name]()
    np.testing.assert_array_equal(task.control.limits.low, [-0.5] * 6)
    np.testing.assert_array_equal(task.control.limits.high, [0.5] * 6)
    env = make_environment(task.benchmark.environment)
    np.testing.assert_array_equal(env.action_space.high, [0.5] * 6)
    env.close()


@pytest.mark.parametrize(
    ("name", "joints", "gear"),
    [
        ("walker2d-v5-thigh-action-on-to-off", ["thigh_joint", "thigh_left_joint"], 0),
        ("walker2d-v5-foot-gear-100-to-70", ["foot_joint", "foot_left_joint"], 70),
    ],
)
def test_both_legs_motors_are_changed(name, joints, gear):
    before, after = models(name)
    np.testing.assert_array_equal(before.actuator_gear[:, 0], [100] * 6)
    wanted = {before.joint(joint).id for joint in joints}
    assert [g == gear for g in after.actuator_gear[:, 0]] == [j in wanted for j in after.actuator_trnid[:, 0]]


@pytest.mark.parametrize(
    ("name", "field", "parts", "entry", "old", "new"),
    [
        ("walker2d-v5-foot-length-0.1-to-0.25", "geom_size", ["foot_geom", "foot_left_geom"], 1, 0.1, 0.25),
        ("hopper-v5-foot-friction-2.0-to-1.7", "geom_friction", ["foot_geom"], 0, 2.0, 1.7),
        ("hopper-v5-leg-size-0.04-to-0.03", "geom_size", ["leg_geom"], 0, 0.04, 0.03),
    ],
)
def test_a_part_has_its_new_number_and_no_other_part_has(name, field, parts, entry, old, new):
    before, after = models(name)
    geoms = [before.geom(part).id for part in parts]
    wanted = getattr(before, field).copy()
    assert wanted[geoms, entry] == pytest.approx(old)
    wanted[geoms, entry] = new
    np.testing.assert_array_equal(getattr(after, field), wanted)


def test_the_torsos_hinge_has_a_spring_that_is_at_rest_upright():
    before, after = models("hopper-v5-torso-stiffness-0-to-3")
    hinge = before.joint("rooty").id
    assert not before.jnt_stiffness.any()
    assert np.flatnonzero(after.jnt_stiffness).tolist() == [hinge]
    assert after.jnt_stiffness[hinge] == 3
    assert after.qpos_spring[after.jnt_qposadr[hinge]] == 0


def test_the_papers_direction_of_the_leg_starts_from_a_thinner_body():
    thin, stock_leg = (TASKS[f"hopper-v5-leg-size-{which}"]() for which in ("0.03", "0.03-to-0.04"))
    assert model_of(thin.benchmark.environment).geom("leg_geom").size[0] == 0.03
    assert model_of(stock_leg.benchmark.environment).geom("leg_geom").size[0] == 0.04
    assert thin.benchmark.environment != stock_leg.benchmark.environment


# ---- environments ----


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_starts_and_ends_as_the_stock_one(name):
    task = TASKS[name]()
    env, own = make_environment(task.benchmark.environment), make_environment(stock(name))
    for seed in (0, 41):
        np.testing.assert_array_equal(env.reset(seed=seed)[0], own.reset(seed=seed)[0])
    assert env.observation_space == own.observation_space
    assert env.unwrapped.dt == own.unwrapped.dt == pytest.approx(task.control.control_dt)
    assert env.spec.max_episode_steps == EPISODE_STEPS
    assert env.spec.id == task.benchmark.environment
    env.close()
    own.close()


@pytest.mark.parametrize("name", [name for name in NAMES if DIFFERENT[name]])
def test_a_modified_body_moves_otherwise(name):
    ends = []
    for environment in (TASKS[name]().benchmark.environment, stock(name)):
        env = make_environment(environment)
        env.reset(seed=0)
        for _ in range(20):
            reached = env.step(np.full(env.action_space.shape, 0.9, np.float32))[0]
        ends.append(reached)
        env.close()
    assert np.abs(ends[0] - ends[1]).max() > 1e-4


@pytest.mark.slow
def test_environments_side_by_side_are_each_alone():
    lockstep = Lockstep(TASKS["hopper-v5-foot-friction-2.0-to-1.7"]().benchmark.environment, 3)
    together = lockstep.roll([1, 2, 3], lambda observations, _: np.zeros((len(observations), 3)))
    alone = [lockstep.roll([seed], lambda observations, _: np.zeros((1, 3)))[0] for seed in (1, 2, 3)]
    lockstep.close()
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)


def test_gymnasium_makes_it_by_its_id_with_the_time_limit():
    env = gymnasium.make("onestride/Walker2d-foot-gear-100-to-70-v5", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(6, np.float32))[3] for _ in range(3)] == [False, False, True]
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("halfcheetah-v5-mass-14-to-7.25", marks=pytest.mark.slow), "halfcheetah-v5-mass-14-to-7-at-2"]
)
def test_it_renders_in_a_process_that_does_not_know_it(name):
    """A mass that is not registered on import."""
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)
    environment = TASKS[name]().benchmark.environment
    try:
        frames, travelled = render_body(environment, 3, actions, np.array([0, 3]), (64, 48))
    except RenderError as error:
        if "onestride" in str(error):  # it is not OpenGL that is missing
            raise
        pytest.skip(str(error))
    assert (frames[0] != frames[1]).any()
    env = make_environment(environment)
    env.reset(seed=3)
    for action in actions:
        env.step(action)
    assert travelled[1] == env.unwrapped.data.qpos[0]
    env.close()
