"""A run's policies by the names that people type."""

from __future__ import annotations

import pytest

from onestride.files import CONFIG
from onestride.runs.trained import trained_folder
from typed import refused


@pytest.fixture
def there(tmp_path):
    for name in ("teacher", "kdm-f-0", "kdm-10", "kdm-2", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / (CONFIG if name != "data" else "seal.json")).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder"),
    [("teacher", "teacher"), ("kdm", "kdm-2"), ("kdm-10", "kdm-10"), ("kdm-f", "kdm-f-0")],
)
def test_a_policy_is_found_by_its_folder_or_by_its_method(there, name, folder):
    assert trained_folder(there, name) == there / folder


@pytest.mark.parametrize(("typed", "meant"), [("kmd", "kdm"), ("taecher", "teacher"), ("kdm-f-1", "kdm-f-0")])
def test_a_mistyped_method_names_the_nearest_and_what_is_there(there, typed, meant, capsys):
    said = f"{there} has no policy '{typed}'. Did you mean '{meant}'? There are: kdm-10, kdm-2, kdm-f-0, teacher\n"
    assert said in refused(capsys, "run", "--run", str(there), "--method", typed)


def test_what_is_like_nothing_names_what_is_there(there, capsys):
    said = refused(capsys, "run", "--run", str(there), "--method", "xyz", "--duration", "1")
    assert "has no policy 'xyz'. There are: kdm-10, " in said


def test_a_method_beside_what_says_it_already_is_refused(there, capsys):
    method = ("run", "--run", str(there), "--method", "kdm")
    assert "--checkpoint says what drives" in refused(capsys, *method, "--checkpoint", "somewhere")
    said = refused(capsys, *method, "--server", "ws://127.0.0.1:1", "--duration", "1")
    assert "leave --checkpoint, --engine, --device and --method away" in said


def test_an_empty_run_has_none(tmp_path, capsys):
    assert "has no trained policy" in refused(capsys, "run", "--run", str(tmp_path), "--method", "dnk")
