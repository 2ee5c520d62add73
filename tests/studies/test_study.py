"""Studies by name, one table of several data sets, and a study from nothing."""

from __future__ import annotations

import json

import pytest

from onestride.cli import main
from onestride.evaluation.variant import Variant
from onestride.experiment import behaviours_in, preset_for
from onestride.reports.table import UNDEFINED, cells
from onestride.runs import presets
from onestride.runs.presets.kdp import SIZES, kdp_stages, with_kdp
from onestride.studies import STUDIES, across
from onestride.studies.kdp import ANT_MAZES, POINT_MAZES, plans_ways
from onestride.studies.study import Job
from onestride.tasks import TASKS
from tiny_run import words

METRICS = ("return_normalised", "success", "decision_ms_mean", "nfe", "action_spread")


def row(value, method, selector, **variant):
    made = {metric: {"mean": value, "std": 0.05, "n": 3, "per_seed": [value] * 3} for metric in METRICS}
    return {"variant": Variant(method=method, selector=selector, **variant).fields(), **made, "episodes": {"mean": 30}}


def comparison(*rows):
    return {"rows": {str(number): each for number, each in enumerate(rows)}, "seeds": {"training": [0, 1, 2]}}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_it_compares_and_what_it_shows(name):
    study = STUDIES[name]()
    assert study.name == name
    assert study.about
    assert study.columns
    assert study.datasets
    assert len(set(study.datasets)) == len(study.datasets)


@pytest.mark.parametrize("name", STUDIES)
def test_a_preset_of_a_study_has_what_the_study_trains(name):
    study = STUDIES[name]()
    for dataset in study.datasets:
        made = preset_for(study, dataset, "tiny")
        methods = {stage.name for stage in made.stages if stage.role == "method"}
        assert methods <= {"teacher", *(study.methods if study.methods is not None else methods)}
        assert ("pairs" in {stage.name for stage in made.stages}) == bool(methods & {"dnk", "kdm", "mlp"})
        if study.methods:
            assert study.methods[0] in methods
            assert preset_for(study, dataset, "small").hours > 0


def test_what_a_task_has_not_is_of_its_own_networks_sizes():
    own = presets.load("hopper-tiny")
    made = {stage.name: stage for stage in kdp_stages(own)}
    assert not made.keys() & {stage.name for stage in own.stages}
    mlp, dnk = made["mlp"].complete(), own.stage("dnk")
    assert mlp.config.operator == "mlp"
    assert mlp.config.hidden == dnk.config.hidden
    assert mlp.training == dnk.training
    teacher = own.stage("teacher")
    for name in made.keys() - {"kdm", "mlp"}:
        shared = [size for size in SIZES if hasattr(made[name].config, size)]
        assert {size: getattr(made[name].config, size) for size in shared} == {
            size: getattr(teacher.config, size) for size in shared
        }
    names = [stage.name for stage in with_kdp(own).stages]
    assert len(names) == len(set(names))


def test_of_a_loss_there_are_no_multiples():
    study = STUDIES["kdp-table1"]()
    found = {study.datasets[0]: comparison(row(-2.0, "teacher", "returns"), row(-1.0, "kdp", "returns"))}
    heading, *lines = cells(across.table(study, found))
    place = heading.index(next(name for name in heading if across.OF_DIFFUSER in name))
    assert {line[place] for line in lines} == {UNDEFINED}


def test_averages_and_ratios_are_of_a_family_and_like_with_like():
    study = STUDIES["kdp-table1"]()
    found = {
        dataset: comparison(
            row(0.5 + 0.1 * number, "teacher", "returns"), row(0.4 + 0.1 * number, "teacher", "iql"),
            row(0.8, "kdp", "iql"), row(0.9, "kdp", "returns"), row(0.1, "bc", "none"),
        )
        for number, dataset in enumerate(study.datasets[:3])
    }  # fmt: skip
    heading, *lines = cells(across.table(study, found))
    lines = {line[0]: dict(zip(heading, line, strict=True)) for line in lines}
    average, ratio = (
        f"3 of 6 locomotion{end}"
        for end in (", average: return x 100", ": of Diffuser's by the same selector (episodes)")
    )
    assert lines["Diffuser"]["halfcheetah-medium: return x 100"] == "60.0 ± 5.0"
    assert lines["Diffuser"][average] == "60.0"
    assert lines["KDP" if "KDP" in lines else "kdp"][ratio] == "1.600 (90 / 90)"  # by IQL: 0.8 / 0.5
    assert lines["KDP (return model)" if "KDP" in lines else "kdp (return model)"][ratio] == "1.500 (90 / 90)"
    assert lines["Diffuser"][ratio] == "–"  # noqa: RUF001 - itself
    assert lines["KDP (paper)"]["hopper-medium-expert: return x 100"] == "103.6"
    assert lines["KDP (paper)"][average] == "–"  # noqa: RUF001 - it is of all six
    assert "walker2d" not in "".join(heading)


def test_an_average_of_what_is_not_all_there_is_none():
    study = STUDIES["kdp-table1"]()
    found = {d: comparison(row(0.5, "teacher", "iql")) for d in study.datasets}
    found["hopper-medium"]["rows"]["1"] = row(0.5, "mlp", "iql")
    made = across.table(study, found)
    assert made.rows["Diffuser (IQL)"]["locomotion: return_normalised"]["mean"] == pytest.approx(0.5)
    assert made.rows["MLP"]["locomotion: return_normalised"]["mean"] is None
    assert made.rows["DQL (paper)"]["locomotion: return_normalised"]["mean"] == 0.911
    assert "The average of DQL is 94.1; 91.1 is printed." in made.caption[1]


def test_only_plans_that_end_at_their_goal_are_drawn_as_ways_through_a_maze():
    """An ant's plan may end in a wall, from where no way is short or long."""
    assert all(plans_ways(TASKS[name]()) for name in POINT_MAZES)
    assert not any(plans_ways(TASKS[name]()) for name in (*ANT_MAZES, "hopper-v5"))


def test_behaviours_are_found_by_their_names(tmp_path):
    for name in ("hopper-expert", "hopper-medium", "antmaze-goal", "pointmaze-goal"):
        (tmp_path / f"{name}.npz").write_text("")
    wanted = {
        "hopper-medium-expert": ["hopper-expert", "hopper-medium"],
        "hopper-medium": ["hopper-medium"],
        "antmaze-umaze": ["antmaze-goal"],
        "pointmaze-umaze": [],  # its demonstrator needs nobody
        "adroit-pen": [],  # its expert is not there
    }
    for dataset, names in wanted.items():
        preset = presets.of_dataset(dataset, "tiny")
        job = Job(tmp_path, dataset, "tiny", preset, "test")
        assert [path.stem for path in behaviours_in(tmp_path, job, TASKS[preset.task]())] == names


@pytest.mark.slow
def test_a_study_is_made_from_nothing_and_again_at_once(tmp_path, capsys):
    where = ["--budget", "tiny", "--task", "pointmaze-umaze", "--run", str(tmp_path / "runs"), "--no-pictures"]
    asked = ["reproduce", "kdp-table3", *where]
    main([*asked, "--publish", str(tmp_path / "published")])
    said = words(capsys.readouterr().err)
    assert said.index(f"goes to {tmp_path / 'runs/kdp'}") < said.rindex("teacher")
    page = tmp_path / "runs/kdp/pointmaze-umaze-tiny/kdp-table3.html"
    assert "Goals in mazes" in page.read_text()
    published = json.loads((tmp_path / "published/pointmaze-umaze.json").read_text())
    rows = published["rows"]
    methods = {row["variant"]["method"] for row in rows.values()}
    assert methods >= {"teacher", "kdp", "kdp-paper", "bc", "dnk", "kdm", "mlp", "demonstrator"}
    assert {row["variant"]["selector"] for row in rows.values()} == {"task", "none"}
    assert rows["demonstrator"]["success"]["mean"] == 1.0
    assert rows["demonstrator"]["episodes"] == rows["kdp-actions-1"]["episodes"]
    main(asked)
    assert "is trained already" in words(capsys.readouterr().err)
