"""Studies of a body that changed: what is asked for a mass, what counts as followed, whether probabilities are true."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onestride.reports.figures_bodies import masses_figure, reliability
from onestride.runs.presets import off_dynamics as presets
from onestride.studies import STUDIES
from onestride.studies.off_dynamics_masses import MASSES, knob, mass_of, task_of_mass
from onestride.studies.off_dynamics_payload import AT, Played
from onestride.tasks import TASKS


def test_the_knob_is_linear_between_the_masses_of_the_data_and_stays_beyond():
    assert knob(14, 0.4) == {"dynamics": -1.0, "inverse": 0.4}
    assert knob(7, 0.4) == {"dynamics": 1.0, "inverse": 0.0}
    assert knob(10.5, 0.4) == {"dynamics": pytest.approx(0.0), "inverse": pytest.approx(0.2)}
    assert knob(3, 0.4) == knob(7, 0.4)
    for mass in MASSES:
        assert mass_of(task_of_mass(mass)) == mass
        assert task_of_mass(mass) in TASKS


def test_every_data_set_has_presets_and_the_paper_has_its_nine():
    assert len(STUDIES["off-dynamics-table1"]().datasets) == 10  # Hopper's leg both ways
    for name in ("table1", "contexts", "guidance", "masses", "knob"):
        study = STUDIES[f"off-dynamics-{name}"]()
        assert study.family == "off-dynamics"
        for dataset in study.datasets:
            for budget in ("tiny", "small", "full"):
                preset = study.preset(dataset, budget)
                assert preset.task in presets.BODIES
                assert {stage.name for stage in preset.stages} >= set(study.methods) - {"source-diffuser"}


def test_true_probabilities_have_no_error_and_certain_ones_that_are_wrong_have_half():
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(200_000, generator=rng)
    own = torch.rand(200_000, generator=rng) < p
    said, found, error = reliability(p, own)
    np.testing.assert_allclose(said, found, atol=0.02)
    assert error < 0.02
    _, _, error = reliability(torch.full((1_000,), 0.999), torch.arange(1_000) % 2 == 0)
    assert error == pytest.approx(0.499, abs=1e-6)


def test_bodies_weigh_the_same_however_much_there_is_of_each():
    p, own = torch.tensor([0.5] * 11), torch.tensor([True] + [False] * 10)
    said, found, _ = reliability(p, own)
    assert (said[0], found[0]) == (pytest.approx(0.5), pytest.approx(0.5))


class Recorder:
    """An engine or a knob that keeps what it is asked for."""

    def __init__(self):
        self.asked, self.dynamics = [], -1.0

    def reset(self, seed):
        self.seed = seed

    def ask(self, **conditions):
        self.asked.append(conditions["dynamics"])

    def decide(self, observation):
        self.dynamics = float(observation[0])
        return SimpleNamespace(action=np.zeros(1))


def test_who_is_told_is_told_at_the_change():
    engine, follower = Recorder(), Recorder()
    played = Played("told", engine, follower, 0.4, 0)
    for _ in range(AT + 3):
        played(np.zeros((1, 2)), np.zeros(1))
    assert engine.asked == [-1.0] * AT + [1.0] * 3


def test_the_change_is_followed_when_the_targets_side_is_asked_for():
    played = Played("follows", Recorder(), Recorder(), 0.4, 0)
    for step in range(AT + 30):
        played(np.full((1, 2), -1.0 if step < AT + 12 else 0.2), np.zeros(1))
    assert played.followed_after() == 12
    never = Played("follows", Recorder(), Recorder(), 0.4, 0)
    for _ in range(AT + 5):
        never(np.full((1, 2), -1.0), np.zeros(1))
    assert never.followed_after() == 5


def test_a_line_per_planner_over_the_mass():
    figure = masses_figure({"off-dynamics": {7.0: (1.0, 0.1), 14.0: (2.0, 0.1)}}, (7.0, 14.0))
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["Off-dynamics (R+DS+ID)"]
