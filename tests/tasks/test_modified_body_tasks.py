"""Modified bodies as tasks: names, what is refused, a payload that changes, one's own body, the way to a planner."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onestride.cli import main
from onestride.data.actors import Scripted
from onestride.data.minari import read_dataset
from onestride.policy.behaviour import planner_behaviour
from onestride.policy.policy import Policy
from onestride.registry import UnknownNameError
from onestride.reports.render import RenderError, render_body
from onestride.runs.presets import PRESETS
from onestride.runs.run import preset_of
from onestride.tasks import CONTROL_SPECS, TASKS, VARIABLE, collect_actors
from onestride.tasks.bodies import BODIES
from onestride.tasks.collect_actors import behaviour_source
from onestride.tasks.lockstep import make_environment
from onestride.tasks.modified_bodies.task import modified_body, payload_changes
from onestride.tasks.modified_bodies.variants import NAMES, source_of

PAGE = Path(__file__).parents[2] / "docs" / "modified-bodies.md"
LIGHT = "halfcheetah-v5-mass-14-to-7"


def mass_of(task):
    env = make_environment(task.benchmark.environment)
    env.close()
    return env.unwrapped.model.body_mass.sum()


# ---- names ----


@pytest.mark.parametrize("name", [*NAMES, "walker2d-v4-foot-gear-100-to-70", "halfcheetah-v5-mass-14-to-8.5"])
def test_a_task_is_the_stock_one_in_another_environment(name):
    task, stock = TASKS[name](), TASKS["-".join(name.split("-")[:2])]()
    assert task.name == name
    for field in ("observation_dim", "action_dim", "horizon", "control_dt"):
        assert getattr(task.control, field) == getattr(stock.control, field)
    for field in ("early_oversampling", "terminates", "native"):
        assert getattr(task, field) == getattr(stock, field)
    assert (task.benchmark.random, task.benchmark.expert) == (stock.benchmark.random, stock.benchmark.expert)
    assert task.benchmark.environment != stock.benchmark.environment
    own = f"{name}-small"  # with its source beside it
    assert preset_of(task) == (own if own in PRESETS else preset_of(stock))
    if "control-range" not in name:
        np.testing.assert_array_equal(task.control.limits.high, stock.control.limits.high)


def test_every_change_of_the_paper_has_its_source_body():
    sources = {name: source_of(name) for name in NAMES}
    assert sources.pop("hopper-v5-leg-size-0.03-to-0.04") == "hopper-v5-leg-size-0.03"
    assert all(source == "-".join(name.split("-")[:2]) for name, source in sources.items())
    assert {name.split("-")[0] for name in sources} == set(BODIES)
    assert source_of("halfcheetah-v4-mass-14-to-5-at-10") == "halfcheetah-v4"
    with pytest.raises(ValueError, match="'hopper-v5' is no task of a modified body; there are: halfcheetah-v5-mass"):
        source_of("hopper-v5")


@pytest.mark.parametrize("mass", ["2", "14.5", "2.999", "seven", "7.0", "07", "-7", "nan", "1e1", "", "\u0667"])
def test_a_mass_out_of_range_or_written_otherwise_is_refused_in_a_line(mass):
    name = f"halfcheetah-v5-mass-14-to-{mass}"
    assert mass == "-7" or name in TASKS  # known, and refused when it is made
    said = r"there is no task|its mass is '.*', expected a number from 3 to 14 \[kg\]"
    with pytest.raises(ValueError, match=said) as caught:
        TASKS[TASKS.resolve(name)]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["0", "1000", "5.5", "05", "", "soon"])
def test_a_step_that_is_none_of_an_episode_is_refused(step):
    with pytest.raises(ValueError, match=f"changes at step '{step}', expected a whole number from 1 to 999"):
        TASKS[f"{LIGHT}-at-{step}"]()


@pytest.mark.parametrize(
    "name",
    ["hopper-v5-mass-14-to-7", "halfcheetah-v3-mass-14-to-7", "halfcheetah-mass-14-to-7", "hopper-v5-leg-size-0.05"],
)
def test_other_names_are_unknown_and_the_nearest_is_named(name):
    assert name not in TASKS
    with pytest.raises(UnknownNameError, match="Did you mean"):
        TASKS.resolve(name)


def test_names_and_control_interfaces_need_neither_torch_nor_mujoco():
    code = (
        f"import sys, onestride.tasks as t; t.CONTROL_SPECS[{NAMES[2]!r}]()\n"
        "assert 'hopper-v4-leg-size-0.03' in t.TASKS\n"
        "print([name for name in ('torch', 'mujoco', 'gymnasium') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    np.testing.assert_array_equal(CONTROL_SPECS[NAMES[2]]().limits.high, [0.5] * 6)


# ---- a payload that changes ----


def test_position_and_velocity_go_on_when_the_payload_changes():
    """Before the step it is the stock body, from it on the light one, from the state that the stock one had."""
    changing, stock = (make_environment(e) for e in (payload_changes(5, 7.0).benchmark.environment, "HalfCheetah-v5"))
    light = make_environment(TASKS[LIGHT]().benchmark.environment)
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 6)).astype(np.float32)
    for _ in range(2):  # another episode begins with the stock masses
        for env in (changing, stock, light):
            env.reset(seed=3)
        for action in actions[:5]:
            np.testing.assert_array_equal(changing.step(action)[0], stock.step(action)[0])
        body, other = changing.unwrapped, light.unwrapped
        assert body.model.body_mass.sum() == pytest.approx(14)
        other.set_state(body.data.qpos, body.data.qvel)
        other.data.qacc_warmstart[:] = body.data.qacc_warmstart
        for action in actions[5:]:
            np.testing.assert_allclose(changing.step(action)[0], light.step(action)[0], atol=1e-9)
        assert body.model.body_mass.sum() == pytest.approx(7)
    for env in (changing, stock, light):
        env.close()


def test_numbers_and_name_of_a_change_are_one_task():
    assert payload_changes(500, 8.5, "v4").name == "halfcheetah-v4-mass-14-to-8.5-at-500"
    with pytest.raises(ValueError, match="its mass is '20'"):
        payload_changes(500, 20)


# ---- from data to a planner ----


def rocking(observation, rng):
    return 0.3 * rng.standard_normal(6)


@pytest.fixture
def _short_chunks(monkeypatch):
    monkeypatch.setattr(collect_actors, "CHUNK", 200)
    monkeypatch.setattr(collect_actors, "WIDTH", 2)


@pytest.mark.usefixtures("_short_chunks")
def test_actions_are_clipped_to_the_changed_range():
    source = behaviour_source(TASKS[NAMES[2]](), [Scripted("wild", lambda observation, rng: np.full(6, 0.8), "0")])
    episodes, _ = source(0, 0)
    assert sum(map(len, episodes)) == 200
    np.testing.assert_array_equal(np.concatenate([e.actions for e in episodes]), np.full((200, 6), 0.5, np.float32))


@pytest.mark.slow
@pytest.mark.usefixtures("_short_chunks")
def test_its_data_train_with_the_presets_of_its_body_and_the_planner_acts_in_others(tmp_path, capsys):
    """And not in a body of wider limits than it was trained within."""
    run, place = tmp_path / "run", f"{__file__}:rocking"
    settings = ["--preset", "halfcheetah-tiny", "--task", LIGHT, "--run", str(run)]
    main(["collect", *settings, "--amount", "200", "--behaviours", place])
    assert sum(len(episode) for episode in read_dataset(run / "data")) == 200
    main(["train", "bc", *settings, "--training.steps", "2", "--selector", "None"])
    assert Policy.from_pretrained(run / "bc-0").task.name == LIGHT
    with pytest.raises(SystemExit):
        main(["train", "bc", "--preset", "hopper-tiny", "--task", LIGHT, "--run", str(run)])
    said = f"is of task '{LIGHT}', and preset 'hopper-tiny' of 'hopper-v5'; leave --preset away: the run's is"
    assert said in capsys.readouterr().err

    narrow = TASKS[NAMES[2]]()
    behaviour = planner_behaviour(run / "bc-0", narrow.control)
    said = " ".join(capsys.readouterr().err.split())
    assert f"for '{LIGHT}' and acts in '{narrow.name}', its actions clipped to narrower limits" in said
    episodes, _ = behaviour_source(narrow, [behaviour])(0, 0)
    assert np.abs(np.concatenate([e.actions for e in episodes])).max() <= 0.5


# ---- a body of one's own ----


@pytest.fixture
def page_file(tmp_path, monkeypatch):
    """The page's example, as it is printed."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = (block for block in blocks if block.startswith("# my_bodies.py"))
    path = tmp_path / "my_bodies.py"
    path.write_text(text)
    monkeypatch.setenv(VARIABLE, "")
    yield path
    if "hopper-v5-heavy-torso" in TASKS:
        del TASKS["hopper-v5-heavy-torso"]


@pytest.mark.slow
def test_the_pages_body_is_a_task_by_its_file(page_file):
    name = TASKS.resolve(f"{page_file}:heavy_torso")
    task, stock = TASKS[name](), TASKS["hopper-v5"]()
    assert (name, task.name) == ("hopper-v5-heavy-torso", name)
    env, own = (make_environment(t.benchmark.environment) for t in (task, stock))
    assert env.unwrapped.model.body("torso").mass == pytest.approx(2 * own.unwrapped.model.body("torso").mass)
    assert env.unwrapped.model.body("leg").mass == own.unwrapped.model.body("leg").mass
    np.testing.assert_array_equal(env.reset(seed=1)[0], own.reset(seed=1)[0])
    env.close()
    own.close()
    try:
        frames, _ = render_body(task.benchmark.environment, 0, np.zeros((1, 3), np.float32), np.array([0, 1]), (64, 48))
    except RenderError as error:
        if "hopper" in str(error):
            raise
        pytest.skip(str(error))
    assert frames.shape == (2, 48, 64, 3)


def negative(spec):
    spec.geom("leg_geom").size[0] = -1


def of_no_part(spec):
    spec.geom("wing").size[0] = 1


def with_another_rate(spec):
    spec.option.timestep = 0.001


def with_a_motor_less(spec):
    spec.delete(spec.actuators[0])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            negative,
            r"task 'hopper-v5-mine' cannot be made: Error: size 0 must be positive in geom Element name 'leg_geom'",
        ),
        (
            of_no_part,
            r"a part that is not there \('NoneType'.*'size'\); there are bodies world torso .*geoms floor torso",
        ),
        (with_another_rate, r"'hopper-v5-mine' has opt.timestep 0.001 instead of 0.002: a robot of other sizes or"),
        (with_a_motor_less, r"'hopper-v5-mine' has nu 2 instead of 3"),
    ],
)
def test_a_body_that_cannot_be_is_refused_in_a_line(edit, said):
    with pytest.raises(ValueError, match=said) as caught:
        modified_body("hopper", "mine", edit)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ant", "mine"), "there is no body 'ant' to modify; there are: halfcheetah, walker2d, hopper"),
        (("hopper", "my change"), "a change of a body cannot be called 'my change'; use letters"),
        (("hopper", "../mine"), "cannot be called"),
        (("hopper", ""), "cannot be called"),
        (("halfcheetah", "mass-14-to-7"), "'halfcheetah-v5-mass-14-to-7' is a modified body that is built in"),
        (("halfcheetah", "mass-14-to-2"), "that is built in"),
    ],
)
def test_a_name_that_cannot_be_is_refused(words, said):
    with pytest.raises(ValueError, match=said):
        modified_body(*words, lambda spec: None)


def test_a_bug_of_an_edit_is_shown_as_one():
    with pytest.raises(AttributeError, match="has no attribute 'sizes'"):
        modified_body("hopper", "mine", lambda spec: spec.geom("leg_geom").sizes)


def test_limits_are_those_of_the_edited_motors_and_the_last_edit_counts():
    def weak(spec):
        spec.actuators[0].ctrlrange = [-0.25, 0.75]

    modified_body("hopper", "mine", lambda spec: None)
    task = modified_body("hopper", "mine", weak, reference=(0.0, 10.0))
    assert (task.control.limits.low.tolist(), task.control.limits.high.tolist()) == ([-0.25, -1, -1], [0.75, 1, 1])
    assert task.benchmark.normalised(5.0) == 0.5
    env = make_environment(task.benchmark.environment)
    np.testing.assert_array_equal(env.action_space.high, [0.75, 1, 1])
    env.close()
