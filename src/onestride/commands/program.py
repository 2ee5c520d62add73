"""The ``onestride`` program: one command per stage, and ``quickstart`` for all of them.

Every command works on one run folder and may be repeated: what is finished is left alone, what was killed
goes on. ``--preset`` fills in everything else; every single value can be given on top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Union

import tyro

from onestride.commands.adopt import Adopt
from onestride.commands.base import Common, InRun, Scalable, begin
from onestride.commands.compare import Evaluate, Quickstart, Reproduce
from onestride.commands.doctor import Doctor
from onestride.commands.drive import Bench, Export, Run
from onestride.commands.light import COMMANDS, Light
from onestride.commands.stages import Collect, Import, Pairs, Source, Train, train_command
from onestride.commands.view import View
from onestride.methods import METHODS
from onestride.runs import presets
from onestride.runs.stage import Preset
from onestride.selectors import SELECTORS

Command = InRun | Doctor | Export | Bench | Light


def _commands(preset: Preset, name: str) -> dict[str, Command]:
    """Every command with the preset's values as defaults."""
    return {
        "collect": Collect(preset=name, task=preset.task, amount=preset.amount, seed=preset.data_seed),
        "import": Import(preset=name, task=preset.task),
        "source": Source(preset=name),
        "adopt": Adopt(),
        "train": Train(preset=name),
        "pairs": Pairs(preset=name, pairs=preset.stage("pairs").config),
        "evaluate": Evaluate(preset=name, evaluate=preset.evaluate),
        "doctor": Doctor(),
        "run": Run(preset=name),
        "view": View(),
        "export": Export(),
        **{name: kind() for name, kind in COMMANDS.items()},  # in the list of all; see light.py
        "bench": Bench(preset=name),
        "quickstart": Quickstart(preset=name),
        "reproduce": Reproduce(),
    }


def _preset_asked_for(arguments: list[str]) -> str:
    """The value of ``--preset``, wherever it stands: it decides the other defaults."""
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--preset="):
            return argument.split("=", 1)[1]
    return "demo"


def _to_train(arguments: list[str]) -> str | None:
    """NAME of ``train NAME``; None: another command, or none is named."""
    if arguments[:1] == ["train"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        return arguments[1]
    return None


def _nothing_named(preset: Preset) -> ValueError:
    names = ", ".join(dict.fromkeys((*(s.name for s in preset.stages if s.role != "pairs"), *METHODS, *SELECTORS)))
    return ValueError(f"say what to train: `onestride train NAME`. There are: {names}, or FILE.py:NAME of your own")


def _chosen(defaults: dict[str, Command], arguments: list[str]) -> Command:
    choices = tuple(
        Annotated[type(default), tyro.conf.subcommand(name, default=default, description=type(default).__doc__)]
        for name, default in defaults.items()
    )
    return tyro.cli(Union[choices], args=arguments, prog="onestride", description=__doc__)  # type: ignore[arg-type] # noqa: UP007


def parse(arguments: list[str]) -> Command:
    """Return the command that was typed, with its preset's values where none were given.

    Raises:
        ValueError: there is no such preset, or nothing of that name to train. SystemExit: tyro refused an option.
    """
    name = _preset_asked_for(arguments)
    preset = presets.load(name)
    if arguments == ["train"]:
        raise _nothing_named(preset)
    if (trained := _to_train(arguments)) is None:
        return _chosen(_commands(preset, name), arguments)
    default = train_command(preset, name, trained)
    prog, description = f"onestride train {trained}", type(default).__doc__
    return tyro.cli(type(default), default=default, args=arguments[2:], prog=prog, description=description)


def carry_out(command: Command, said: str | None) -> None:
    """Do what a command says, or print it where that is all that was asked for; ``said`` is printed first."""
    if not begin(command, said):
        return
    if isinstance(command, Common) and command.sized:
        from onestride.runs.run import check_preset_matches_task

        preset = presets.load(command.preset)
        check_preset_matches_task(command.run, command.preset, preset.task, preset.data.name)
    if isinstance(command, Train):
        command.check()
    from onestride.scale.place import working_on

    on = command.on if isinstance(command, Scalable) else "local"
    with working_on(on, getattr(command, "run", Path())):
        command()  # type: ignore[operator]
