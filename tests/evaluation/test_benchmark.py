"""Table I from nothing on the tiny preset: every stage, every row, and an evaluation that a kill does not change."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from onestride import ablations, experiment, pipeline, presets
from onestride.checkpoint import CheckpointError, load_config, load_tensors
from onestride.cli import main
from onestride.control.policy import GUIDE, SELECTOR, Policy
from onestride.data.minari import read_dataset, read_metadata
from onestride.diffusion.guidance import GuidedPlanner
from onestride.evaluation import benchmark as module
from onestride.evaluation.benchmark import benchmark, roll, summary
from onestride.evaluation.lineup import Entry, lineup, policy_of
from onestride.presets import ReturnsConfig
from onestride.selectors.iql import CriticSelector
from onestride.tasks import TASKS, behaviour
from onestride.tasks.lockstep import Lockstep

PRESET = "hopper-tiny"
CONFIG = replace(presets.load(PRESET).evaluate, precision="32-true")
CHUNK = 2_000  # steps of one behaviour policy in a row; twice that are collected
#: Rows in the table's order, each as often as it has seeds.
ROWS = [
    "teacher", "teacher-iql", "teacher-unselected",
    "dnk", "dnk-classifier", "dnk-engine", "dnk-first", "dnk-int8", "dnk-unselected",
    "cd", "cd-unselected", "ct", "ct-unselected", "kdm", "kdm-classifier", "kdm-unselected",
]  # fmt: skip


def write_behaviour(path, deviation, seed):
    """An actor of Hopper's shape that nearly does nothing: it stands for a hundred steps and falls."""
    rng = np.random.default_rng(seed)
    settings = {"activation": "tanh", "squash": False, "clip_obs": 10.0, "extra_action_noise_std": 0.0}
    np.savez(
        path,
        w0=rng.normal(size=(8, 11)).astype(np.float32),
        b0=np.zeros(8, np.float32),
        w_mean=(0.02 * rng.normal(size=(3, 8))).astype(np.float32),
        b_mean=np.zeros(3, np.float32),
        w_logstd=np.zeros((3, 8), np.float32),
        b_logstd=np.full(3, np.log(deviation), np.float32),
        obs_mean=np.zeros(11),
        obs_var=np.ones(11),
        metadata=np.frombuffer(json.dumps(settings).encode(), np.uint8),
    )
    return str(path)


def stage(folder, name, *arguments):
    main([name, "--preset", PRESET, "--run", str(folder), *arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every stage of the preset, one command each."""
    base = tmp_path_factory.mktemp("locomotion")
    folder = base / "run"
    behaviours = [write_behaviour(base / "calm.npz", 0.02, seed=0), write_behaviour(base / "wild.npz", 0.1, seed=1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "CHUNK", CHUNK)
        stage(folder, "collect", "--amount", str(2 * CHUNK), "--behaviours", *behaviours)
    for name in ("returns", "critic", "teacher", "pairs"):
        stage(folder, name)
    for operator in presets.load(PRESET).operators:
        stage(folder, "distill", "--student.operator", operator)
    stage(folder, "edm")
    for method in ("ct", "cd"):
        stage(folder, "consistency", "--student.method", method)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _few_warm_ups():
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "WARM_UP", 1)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def evaluated(run):
    folder = benchmark(run, CONFIG, "onestride evaluate")
    return run, folder


@pytest.fixture
def again(evaluated, tmp_path):
    """A copy of the evaluated run, to do harm to."""
    shutil.copytree(evaluated[0], tmp_path / "run")
    return tmp_path / "run"


def words(text):
    """Without the line ends of a narrow screen."""
    return " ".join(text.split())


def records_of(folder):
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def keyed(records):
    assert len({(r["row"], r["seed"], r["episode"]) for r in records}) == len(records)
    return {(r["row"], r["seed"], r["episode"]): r for r in records}


# ---- the stages ----


def test_the_data_has_the_steps_asked_for_half_of_each_policy(run):
    metadata = read_metadata(run / "data")
    assert metadata["task"] == "hopper-v5"
    assert metadata["total_steps"] == metadata["steps"] == sum(len(e) for e in read_dataset(run / "data")) == 2 * CHUNK
    assert metadata["counts"] == {"steps of calm": CHUNK, "steps of wild": CHUNK}
    assert [b["name"] for b in metadata["behaviours"]] == ["calm", "wild"]


def test_the_teacher_is_ranked_and_guided_by_the_return_model_students_by_the_critic(run):
    teacher = Policy.from_pretrained(run / "teacher", task="hopper-v5")
    assert isinstance(teacher.generator, GuidedPlanner)
    assert teacher.generator.weight == presets.load(PRESET).selectors.guidance
    ranks, guides, trained = (
        load_tensors(folder / "model.safetensors")[0]
        for folder in (run / "teacher" / SELECTOR, run / "teacher" / GUIDE, run / "returns")
    )
    assert all(torch.equal(ranks[name], value) and torch.equal(guides[name], value) for name, value in trained.items())
    for name in ("dnk-0", "kdm-0", "ct-0", "cd-0"):
        student = Policy.from_pretrained(run / name)
        assert isinstance(student.selector, CriticSelector)
        assert student.task.horizon == (1 if name in ("ct-0", "cd-0") else 32)


def test_every_stage_again_changes_nothing(run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "evaluation" not in p.parts}
    for name in ("returns", "critic", "teacher", "pairs", "distill", "edm", "consistency"):
        stage(run, name)
    stage(run, "consistency", "--student.method", "cd")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "evaluation" not in p.parts} == before
    assert words(capsys.readouterr().err).count("trained already") == 7


@pytest.mark.parametrize(
    ("name", "needs"),
    [("teacher", "onestride returns"), ("distill", "onestride critic"), ("consistency", "onestride critic")],
)
def test_a_stage_before_its_time_says_what_comes_first(run, tmp_path, capsys, name, needs):
    shutil.copytree(run / "data", tmp_path / "run" / "data")
    if name == "distill":
        for part in ("pairs", "teacher"):
            shutil.copytree(run / part, tmp_path / "run" / part)
    with pytest.raises(SystemExit) as stop:
        stage(tmp_path / "run", name)
    assert stop.value.code == 2
    assert needs in capsys.readouterr().err


def test_a_trained_student_drives_the_body_that_does_not_wait(run, capsys):
    stage(run, "run", "--clock", "charged", "--timeout", "0.5")
    record = json.loads(capsys.readouterr().out)
    assert record["outcome"] in ("fell", "timeout")
    assert record["executed_steps"] > 0
    assert {"return_raw", "return_normalised"} <= record.keys()


# ---- the evaluation ----


def test_rows_are_the_papers_and_crossed_and_unselected(run):
    entries = lineup(run, CONFIG)
    assert [e.row for e in entries] == ROWS
    assert {e.row: e.selector for e in entries} == {
        row: "none" if row.endswith("-unselected")
        else "returns" if row in ("teacher", "dnk-classifier", "kdm-classifier")
        else row.removeprefix("dnk-") if row in ("dnk-first", "dnk-engine", "dnk-int8")
        else "iql"
        for row in ROWS
    }  # fmt: skip
    more = lineup(run, replace(CONFIG, teacher_seeds=3, crossed=("kdm",)))
    assert [e.seed for e in more if e.row == "teacher-iql"] == [0, 1, 2]  # one training, other noise and starts
    assert "dnk-classifier" not in {e.row for e in more}


def test_who_is_not_selected_draws_one_candidate(run):
    entry = Entry("dnk-unselected", 0, run / "dnk-0", "none")
    assert policy_of(run, entry, "cpu").candidates == 1
    assert policy_of(run, replace(entry, selector="iql"), "cpu").candidates == 64


def test_bfloat16_is_for_teachers_alone(run):
    found = {name: policy_of(run, Entry(name, 0, run / name, "iql"), "cpu", "bf16-mixed").precision
             for name in ("teacher", "dnk-0", "ct-0")}  # fmt: skip
    assert found == {"teacher": "bf16-mixed", "dnk-0": "32-true", "ct-0": "32-true"}


def test_an_engine_acts_as_its_policy_with_the_same_noise(run):
    entry = Entry("dnk", 0, run / "dnk-0", "iql")
    policy, engine = policy_of(run, entry, "cpu"), policy_of(run, replace(entry, selector="engine"), "cpu")
    observations = [TASKS["hopper-v5"]().first_observation(seed) for seed in range(5)]
    policy.reset(0)
    engine.reset(0)
    wanted = [policy.decide(observation).action for observation in observations]
    np.testing.assert_allclose(engine.act(np.stack(observations)), np.stack(wanted), atol=1e-4)


def test_the_papers_critic_judges_the_first_action_ours_the_plan(run):
    entry = Entry("dnk", 0, run / "dnk-0", "iql")
    found = {s: policy_of(run, replace(entry, selector=s), "cpu").selector.rows for s in ("iql", "first")}
    assert found == {"iql": 2, "first": 1}


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (3, 3), (None, 4)])
def test_an_entry_may_have_other_candidates_and_a_teacher_other_steps(run, steps, calls):
    policy = policy_of(run, Entry("teacher-ddim", 0, run / "teacher", "iql", candidates=5, steps=steps), "cpu")
    asked = []
    policy.generator.planner.network.register_forward_hook(lambda m, given, out: asked.append(len(given[0])))
    policy.decide(TASKS["hopper-v5"]().first_observation(0))
    assert asked == [5] * calls
    assert policy.generator.nfe == calls


def test_every_row_has_every_episode_once(evaluated):
    records = keyed(records_of(evaluated[1]))
    assert set(records) == {(row, 0, n) for row in ROWS for n in range(CONFIG.episodes)}
    task = TASKS["hopper-v5"]()
    for r in records.values():
        assert r["return_normalised"] == task.benchmark.normalised(r["return_raw"])
        assert r["fell"] == (r["steps"] < 1000)


def test_an_episode_is_the_policys_in_the_environment(evaluated):
    """What stands in the records can be made again from checkpoint, seed and number."""
    run, folder = evaluated
    lockstep = Lockstep("Hopper-v5", CONFIG.width)
    records = keyed(records_of(folder))
    for row, name, selector in (("dnk", "dnk-0", "iql"), ("teacher-unselected", "teacher", "none")):
        policy = policy_of(run, Entry(row, 0, run / name, selector), "cpu")
        for number, episode in enumerate(roll(policy, lockstep, 0, 0, CONFIG.episodes)):
            assert records[row, 0, number]["steps"] == len(episode)
            assert records[row, 0, number]["return_raw"] == float(episode.rewards.astype(float).sum())
    lockstep.close()


class Silent:
    """A policy, or environments, that remember what they were asked for."""

    def __init__(self):
        self.asked = []

    def reset(self, seed):
        self.asked.append(seed)

    def roll(self, seeds, act):
        self.asked += seeds
        return []


def test_every_seed_meets_the_same_starts_with_noise_of_its_own():
    noise, starts = [], []
    for seed in range(5):
        for first in range(0, 500, 50):
            policy, lockstep = Silent(), Silent()
            roll(policy, lockstep, seed, first, 50)
            noise += policy.asked
            starts.append(lockstep.asked)
    assert len(set(noise)) == len(noise) == 50
    assert starts[:10] * 5 == starts
    assert list(chain(*starts[:10])) == list(range(module.FIRST_SEED, module.FIRST_SEED + 500))


def test_the_result_says_everything(evaluated):
    _, folder = evaluated
    report = json.loads((folder / "comparison.json").read_text())
    assert report["schema"] == 1
    assert report["experiment"] == "hopper-v5"
    assert list(report["rows"]) == ROWS
    for key in ("command", "config", "seeds", "versions", "machine", "started", "wall_s", "notes"):
        assert report[key]
    assert report["config"]["data"]["behaviours"]
    assert {"returns", "iql", "teacher", "dnk-0", "kdm-0", "ct-0", "cd-0"} <= report["config"].keys()
    assert all("history" not in entry.get("training", {}) for entry in report["config"].values())
    records = records_of(folder)
    for row, metrics in report["rows"].items():
        mine = [r for r in records if r["row"] == row]
        returns = [r["return_normalised"] for r in mine]
        assert metrics["return_normalised"]["per_seed"] == [pytest.approx(np.mean(returns))]
        assert metrics["sigma_ep"]["mean"] == pytest.approx(np.std(returns))
        assert metrics["fell"]["mean"] == np.mean([r["fell"] for r in mine])
        assert metrics["episodes"]["mean"] == CONFIG.episodes
        assert ("decision_ms_p50" in metrics) == (not row.endswith("-unselected"))
        assert metrics["action_spread"]["mean"] > 0
        whole = not row.startswith(("ct", "cd"))
        assert ("teacher_distance" in metrics) == ("plan_spread" in metrics) == whole
        assert not whole or 1 <= metrics["plan_dimensions"]["mean"] <= 63 >= metrics["own_plan_dimensions"]["mean"]
    assert report["rows"]["teacher"]["teacher_distance"]["mean"] == 0  # it is no way from itself
    assert report["rows"]["dnk"]["teacher_distance"]["mean"] > 0
    unselected = report["rows"]["dnk-unselected"]["return_normalised"]["mean"]
    assert report["rows"]["dnk"]["unselected_return"]["mean"] == unselected


def test_candidates_are_kept_for_the_figures(evaluated):
    tensors, _ = load_tensors(evaluated[1] / "candidates.safetensors")
    assert set(tensors) == {f"plans.{row}" for row in ("teacher", "dnk", "kdm")}
    for plans in tensors.values():
        assert plans.shape == (CONFIG.shown, 64, 32, 14)
        assert torch.equal(plans[:, :, 0, :11], plans[:, :1, 0, :11].expand(-1, 64, -1))
    states, _ = load_tensors(evaluated[1] / "states.safetensors")
    assert set(states) == {f"{row}-0" for row in ROWS}
    assert all(seen.shape == (CONFIG.states, 11) for seen in states.values())


# ---- killed, and gone on with ----


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_lost_records_are_made_again_the_same(again, evaluated, lost):
    """However the lines fall into batches, what is missing is made and what is there is not doubled."""
    folder = again / "evaluation"
    path = folder / "episodes.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lost]))
    benchmark(again, CONFIG, "onestride evaluate")
    assert keyed(records_of(folder)) == keyed(records_of(evaluated[1]))
    before, after = (json.loads((f / "comparison.json").read_text()) for f in (evaluated[1], folder))
    for row in ROWS:
        assert after["rows"][row] == before["rows"][row]


def test_a_killed_evaluation_goes_on_where_it_was(run, evaluated, tmp_path, monkeypatch):
    for path in run.iterdir():
        if path.is_dir() and path.name != "evaluation":
            shutil.copytree(path, tmp_path / "run" / path.name)
    made, honest = [], module.roll

    def dies(policy, lockstep, seed, first, count):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append((seed, first))
        return honest(policy, lockstep, seed, first, count)

    monkeypatch.setattr(module, "roll", dies)
    with pytest.raises(KeyboardInterrupt):
        benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    path = tmp_path / "run" / "evaluation" / "episodes.jsonl"
    assert len(path.read_text().splitlines()) == 10
    path.write_text(path.read_text()[:-25])  # the kill came in the middle of a line
    made[:] = [None] * 20
    benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    assert len(made) - 20 == len(ROWS) - 4
    assert keyed(records_of(tmp_path / "run" / "evaluation")) == keyed(records_of(evaluated[1]))


def test_quickstart_takes_what_is_there_and_ends_with_a_report(run, tmp_path, capsys):
    """Data is not made again, nor asked for its policies; the evaluation is the preset's own."""
    for path in run.iterdir():
        if path.is_dir() and path.name != "evaluation":
            shutil.copytree(path, tmp_path / "run" / path.name)
    stage(tmp_path / "run", "quickstart", "--no-pictures")
    printed = capsys.readouterr()
    assert words(printed.err).count("trained already") == 8
    assert str(tmp_path / "run" / "evaluation" / "comparison.json") in printed.out
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert set(keyed(records_of(tmp_path / "run" / "evaluation"))) == {(row, 0, n) for row in ROWS for n in range(2)}


def test_a_finished_evaluation_again_rolls_nothing(again, monkeypatch):
    before = {p.name: p.read_bytes() for p in (again / "evaluation").iterdir() if p.name != "comparison.json"}
    monkeypatch.setattr(module, "roll", None)
    benchmark(again, CONFIG, "onestride evaluate")
    assert {p.name: p.read_bytes() for p in (again / "evaluation").iterdir() if p.name != "comparison.json"} == before


def test_an_evaluation_under_other_settings_is_refused(again):
    with pytest.raises(CheckpointError, match="under other settings"):
        benchmark(again, replace(CONFIG, episodes=3), "onestride evaluate")


def counting(monkeypatch):
    """How many batches are rolled from now on."""
    rolled, honest = [], module.roll
    monkeypatch.setattr(module, "roll", lambda *given: rolled.append(given[2]) or honest(*given))
    return rolled


def test_a_planner_trained_later_joins_the_evaluation(run, evaluated, tmp_path, monkeypatch):
    for path in run.iterdir():
        if path.is_dir() and path.name not in ("evaluation", "kdm-0"):
            shutil.copytree(path, tmp_path / "run" / path.name)
    folder = benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    shutil.copytree(run / "kdm-0", tmp_path / "run" / "kdm-0")
    rolled = counting(monkeypatch)
    benchmark(tmp_path / "run", CONFIG, "onestride evaluate")
    assert len(rolled) == 3  # kdm, kdm-classifier, kdm-unselected
    assert keyed(records_of(folder)) == keyed(records_of(evaluated[1]))
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert list(rows) == ROWS
    assert "decision_ms_p50" in rows["kdm"]
    assert "plans.kdm" in load_tensors(folder / "candidates.safetensors")[0]
    assert not list(folder.glob("before-*"))


def test_a_planner_trained_anew_is_evaluated_anew(again, evaluated, monkeypatch, capsys):
    """And what was measured of the former one is put away, not lost."""
    config = json.loads((again / "kdm-0" / "config.json").read_text())
    config["training"]["id"] = "another"
    (again / "kdm-0" / "config.json").write_text(json.dumps(config))
    rolled = counting(monkeypatch)
    folder = benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3
    assert "kdm-0 (kdm)" in words(capsys.readouterr().err)
    records = keyed(records_of(evaluated[1]))
    assert keyed(records_of(folder)) == records  # the weights are the same here
    assert keyed(records_of(folder / "before-1")) == {k: r for k, r in records.items() if k[0].startswith("kdm")}
    benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == 3


def test_another_critic_changes_what_it_ranks(again, monkeypatch):
    config = json.loads((again / "iql" / "config.json").read_text())
    config["training"]["id"] = "another"
    (again / "iql" / "config.json").write_text(json.dumps(config))
    rolled = counting(monkeypatch)
    benchmark(again, CONFIG, "onestride evaluate")
    assert len(rolled) == sum(not r.endswith(("classifier", "unselected")) and r != "teacher" for r in ROWS)


def test_rows_that_are_no_longer_asked_for_do_not_count_as_done(again, monkeypatch):
    """A critic that judges one row only leaves no -first row to play; the former one's records stay."""
    config = json.loads((again / "iql" / "config.json").read_text())
    (again / "iql" / "config.json").write_text(json.dumps(config | {"judged_rows": 1}))
    seen = []
    monkeypatch.setattr(module, "track", lambda title, total, done=0: Bar(seen, title, total, done))
    benchmark(again, CONFIG, "onestride evaluate")
    counts = [at for title, at, _ in seen if title == "episodes"]
    assert counts == sorted(counts)
    assert {total for title, _, total in seen if title == "episodes"} == {counts[-1]}


class Bar:
    """What a progress bar was told: (title, at, of how many)."""

    def __init__(self, seen, title, total, done):
        self.seen, self.title, self.total = seen, title, total
        self.update(done)

    def update(self, at, note=""):
        self.seen.append((self.title, at, self.total))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_nothing_to_evaluate(run, tmp_path):
    shutil.copytree(run / "data", tmp_path / "run" / "data")
    with pytest.raises(CheckpointError, match="holds no planner to evaluate"):
        benchmark(tmp_path / "run", CONFIG, "onestride evaluate")


def test_other_entries_are_evaluated_beside_the_table(again, evaluated):
    """Under a name of their own; an entry that stands in the table too has the same episodes."""
    chosen = [Entry("dnk", 0, again / "dnk-0", "iql"), Entry("dnk-5", 0, again / "dnk-0", "iql", candidates=5)]
    chosen.append(Entry("dnk-unselected", 0, again / "dnk-0", "none"))
    folder = benchmark(again, CONFIG, "test", name="other", entries=chosen)
    assert folder == again / "other"
    records, table = keyed(records_of(folder)), keyed(records_of(evaluated[1]))
    assert {row for row, _, _ in records} == {"dnk", "dnk-5", "dnk-unselected"}
    assert all(r == table[key] for key, r in records.items() if key in table)
    assert records["dnk-5", 0, 0] != records["dnk", 0, 0] | {"row": "dnk-5"}


# ---- a row's numbers ----


def test_a_row_is_mean_and_deviation_over_its_seeds():
    records = [
        {"row": row, "seed": s, "episode": n, "return_normalised": v, "return_raw": 10 * v, "steps": 9, "fell": n == 0}
        for row, shift in (("dnk", 0.0), ("dnk-unselected", -0.5))
        for s, values in enumerate(([1.0, 3.0], [2.0, 2.0], [0.0, 1.0]))
        for n, v in enumerate(np.array(values) + shift)
    ]
    clouds = [{"row": "dnk", "seed": s, "action_spread": 0.1 * s} for s in range(3)]
    made = summary(records, clouds, {"dnk": [0.001, 0.003]}, {"dnk": 1}, "dnk")
    assert made["return_normalised"]["per_seed"] == [2.0, 2.0, 0.5]
    assert made["return_normalised"]["mean"] == pytest.approx(1.5)
    assert made["return_normalised"]["std"] == pytest.approx(np.std([2.0, 2.0, 0.5]))
    assert made["return_raw"]["mean"] == pytest.approx(15)
    assert made["sigma_ep"]["per_seed"] == [1.0, 0.0, 0.5]
    assert made["worst_seed_return"]["mean"] == 0.5
    assert made["fell"]["mean"] == 0.5
    assert made["episodes"]["mean"] == 6
    assert made["action_spread"]["mean"] == pytest.approx(0.1)
    assert made["unselected_return"]["mean"] == pytest.approx(1.0)
    assert made["decision_ms_mean"]["mean"] == pytest.approx(2.0)
    assert made["control_hz"]["mean"] == pytest.approx(500)
    assert "own_action_spread" not in made


def test_the_papers_protocol_is_in_the_full_presets():
    for body in ("halfcheetah", "walker2d", "hopper"):
        full = presets.load(f"{body}-full")
        assert (full.evaluate.episodes, len(full.seeds), full.evaluate.teacher_seeds) == (500, 5, 5)
        assert full.pairs.count == 500_000
        assert (full.teacher.n_steps, full.selectors.returns.n_steps) == (20, 20)
        assert full.task == f"{body}-v5"


@pytest.mark.parametrize("name", [n for n in presets.PRESETS if presets.load(n).selectors])
def test_a_presets_teacher_and_return_model_have_the_same_noise_levels(name):
    preset = presets.load(name)
    assert preset.selectors.returns.n_steps == preset.teacher.n_steps
    assert preset.consistency.student.width == preset.consistency.edm.width
    TASKS[preset.task]()


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="numbers of at least 1"):
        ReturnsConfig(episodes=0)


def test_checkpoints_name_their_training(run):
    ids = {load_config(run / n)["training"]["id"] for n in ("returns", "iql", "teacher", "dnk-0", "kdm-0", "ct-0")}
    assert len(ids) == 6


def test_ablations_take_one_piece_away_and_share_everything_else(run, tmp_path, monkeypatch):
    whole = tmp_path / "run"
    shutil.copytree(run, whole)
    for name, kept in (("CANDIDATES", (1, 4)), ("DDIM_STEPS", (20, 4, 1))):
        monkeypatch.setattr(ablations, name, kept)
    kept = ("dnk", "no-action", "no-weights")
    monkeypatch.setattr(ablations, "OTHER_STUDENTS", {k: ablations.OTHER_STUDENTS[k] for k in kept})
    preset = replace(presets.load(PRESET), evaluate=CONFIG, seeds=(0,))
    with pytest.raises(CheckpointError, match="dnk-1 is not trained yet, and comes first: run `onestride reproduce"):
        experiment.ablations(whole, replace(preset, seeds=(0, 1)), "test", "cpu")
    assert not (whole / "ablations").exists()
    folder = experiment.ablations(whole, preset, "test", "cpu").folder
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    variants = {"dnk", "no-action", "no-weights", "single-lambda", "ancestral"}
    steps = {"teacher-ddim-4", "teacher-ddim-1"}  # its teacher has four
    assert set(rows) == variants | steps | {f"{n}-unselected" for n in variants | steps} | {
        "candidates-1", "candidates-4",
    }  # fmt: skip
    assert [rows[f"teacher-ddim-{n}"]["nfe"]["mean"] for n in (1, 4)] == [1, 4]
    # At the whole teacher's states; with all its steps it is where it is, with one it is not.
    assert (
        rows["teacher-ddim-4"]["teacher_distance"]["mean"] == 0.0 < rows["teacher-ddim-1"]["teacher_distance"]["mean"]
    )
    trained = {name: load_config(whole / "ablations" / f"{name}-0") for name in variants}
    assert trained["no-action"]["generator"] == trained["dnk"]["generator"] | {"action": 0.0}
    assert trained["no-weights"]["generator"] == trained["dnk"]["generator"] | {"weighted": False}
    assert trained["single-lambda"]["generator"] == trained["dnk"]["generator"]
    assert trained["single-lambda"]["temperatures"] == [0.5]
    manifest = json.loads((whole / "ablations" / "pairs-ancestral" / "pairs.json").read_text())
    assert manifest["settings"]["solver"] == "ddpm"
    assert not (whole / "dnk-1").exists()  # nothing of it stands among the table's own checkpoints
    assert (folder / "ablations.png").stat().st_size > 20_000


def test_a_missing_critic_is_said_before_a_student_trains(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "train", lambda *_, **__: pytest.fail("it trains first"))
    there = tmp_path / "run"
    shutil.copytree(run, there)
    shutil.rmtree(there / "iql")
    preset = presets.load(PRESET)
    ct = replace(preset.consistency.student, method="ct")
    for stage_of, config in ((pipeline.distill_stage, preset.student), (pipeline.consistency_stage, ct)):
        with pytest.raises(CheckpointError, match="iql is not trained yet, and comes first: run `onestride critic`"):
            stage_of(there, config, replace(preset.student_training, seed=7))


def test_the_distance_from_the_teacher_is_of_the_same_noise_also_where_it_is_scaled_otherwise(again):
    quiet = again / "quiet"
    shutil.copytree(again / "teacher", quiet)
    config = json.loads((quiet / "config.json").read_text())
    (quiet / "config.json").write_text(json.dumps(config | {"temperatures": [0.1], "shares": [1.0]}))
    entries = [
        Entry(f"{folder.name}{end}", 0, folder, selector)
        for folder in (again / "teacher", quiet)
        for selector, end in (("returns", ""), ("none", "-unselected"))
    ]
    folder = benchmark(again, CONFIG, "test", name="noise", entries=entries)
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert rows["quiet"]["action_spread"]["mean"] < rows["teacher"]["action_spread"]["mean"]
    assert rows["quiet"]["teacher_distance"]["mean"] == 0.0


def test_how_much_of_a_plan_the_critic_judges_may_be_changed_without_training(run, tmp_path):
    there = tmp_path / "run"
    shutil.copytree(run, there)
    weights = (there / "iql" / "model.safetensors").read_bytes()
    stage(there, "critic", "--rows", "1")
    assert (there / "iql" / "model.safetensors").read_bytes() == weights
    assert "dnk-first" not in {e.row for e in lineup(there, CONFIG)}
    assert policy_of(there, Entry("dnk", 0, there / "dnk-0", "iql"), "cpu").selector.rows == 1
    trained = (there / "dnk-0" / "model.safetensors").read_bytes()
    assert Policy.from_pretrained(there / "dnk-0").selector.rows == 2
    stage(there, "distill")
    assert Policy.from_pretrained(there / "dnk-0").selector.rows == 1
    assert (there / "dnk-0" / "model.safetensors").read_bytes() == trained
