"""What a record says of its planners' presets."""

import pytest
from rich.table import Table

from onestride.commands.base import print_outcome
from onestride.evaluation.provenance import preset_notes
from onestride.studies.study import Outcome

OTHERS = {"data": {"preset": "demo"}, "evaluate": {"trials": 2}, "task": {}, "dnk-3": {"training": {"steps": 7}}}


def trained(**presets):
    return OTHERS | {name: {"training": {"preset": preset}} for name, preset in presets.items()}


def test_one_preset_that_learns_needs_no_word():
    assert preset_notes(OTHERS) == []
    assert preset_notes(trained(teacher="demo", dnk="demo")) == []


def test_different_presets_in_one_table_are_named_with_what_they_trained():
    assert preset_notes(trained(teacher="demo", dnk="demo", kdm="full")) == [
        "Trained by different presets: dnk, teacher by 'demo'; kdm by 'full'. Rows differ by that too, not by their "
        "methods alone."
    ]
    nothing, differ = preset_notes(trained(teacher="hopper-small", dnk="hopper-tiny"))
    assert nothing.startswith("Preset 'hopper-tiny' is there to try commands: dnk learnt nothing in its few steps")
    assert "dnk by 'hopper-tiny'; teacher by 'hopper-small'" in differ


@pytest.mark.parametrize("notes", [(), ("Mind [this].",)])
def test_notes_stand_below_the_table(notes, tmp_path, capsys):
    print_outcome(Outcome(tmp_path, None, Table("a"), notes))
    said = capsys.readouterr()
    assert said.err.endswith("".join(f"{note}\n" for note in notes))
    assert ("Mind" in said.err) == bool(notes)
