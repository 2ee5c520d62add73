"""The ``onestride`` program: one command per stage, and ``quickstart`` for all of them.

Every command works on one run folder and may be repeated: what is finished is left alone, what was killed
goes on. ``--preset`` fills in everything else; every single value can be given on top.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from onestride.commands.adopt import Adopt
from onestride.commands.base import PRESET, Common, InRun, Scalable, announce, begin
from onestride.commands.compare import Evaluate, Quickstart, Reproduce
from onestride.commands.doctor import Doctor
from onestride.commands.drive import Bench, Export, Run
from onestride.commands.help import asked_for, described, first_paragraph, help_of
from onestride.commands.light import COMMANDS as LIGHT
from onestride.commands.light import Light
from onestride.commands.presets import Presets
from onestride.commands.stages import Collect, Import, Pairs, Source, Train, train_command
from onestride.commands.view import View
from onestride.registry import nearest
from onestride.runs import presets
from onestride.runs.made_with import preset_of_run
from onestride.runs.trainable import UntrainedError, check_trainable, trainable
from onestride.termination import heard

Command = InRun | Doctor | Export | Bench | Presets | Light
#: In the order of the list of all.
COMMANDS: dict[str, type[Command]] = {
    "collect": Collect,
    "import": Import,
    "source": Source,
    "adopt": Adopt,
    "train": Train,
    "pairs": Pairs,
    "evaluate": Evaluate,
    "doctor": Doctor,
    "run": Run,
    "view": View,
    "export": Export,
    **LIGHT,
    "bench": Bench,
    "quickstart": Quickstart,
    "reproduce": Reproduce,
    "presets": Presets,
}


def parse(arguments: list[str]) -> Command:
    """Return the command that was typed, without a preset's values: they need torch, which takes seconds to import.

    Raises:
        ValueError: there is no such command or preset, or nothing of that name to train.
        SystemExit: tyro refused an option, or printed what was asked for.
    """
    if not arguments or arguments[0] not in COMMANDS:
        if arguments and not asked_for(arguments):
            near = nearest(arguments[0], [*COMMANDS, "--version", "--help"])
            hint = f" Did you mean '{near}'?" if near else ""
            raise ValueError(f"there is no command '{arguments[0]}'.{hint} There are: {', '.join(COMMANDS)}")
        return _any_of_all(arguments)
    kind = COMMANDS[arguments[0]]
    presets.check(_preset_of(kind, arguments))
    if kind is Train and (name := _to_train(arguments)) is not None:
        check_trainable(name)
    elif kind is Train and not asked_for(arguments):
        raise ValueError(f"say what to train: `onestride train NAME`. There are: {', '.join(trainable())}, or "
                         "FILE.py:NAME of your own")  # fmt: skip
    if asked_for(arguments):
        return complete(arguments)
    return _without_preset(kind, arguments)


def complete(arguments: list[str]) -> Command:
    """Return the command that was typed, with its preset's values where none were given."""
    kind = COMMANDS[arguments[0]]
    name = _preset_of(kind, arguments)
    if kind is Train and (trained := _to_train(arguments)) is not None:
        default: Command = train_command(presets.load(name), name, trained)
        return _typed(default, arguments, 2)
    return _typed(kind.with_preset(name) if issubclass(kind, Common) else kind(), arguments)


def carry_out(command: Command, arguments: list[str], said: str | None) -> None:
    """Do what a command says, or print it where that is all that was asked for; ``said`` is printed first.

    Raises:
        Terminated: SIGTERM or SIGHUP came to a command that goes on from there when it is repeated.
    """
    announce(command, arguments, said)
    with heard() if isinstance(command, InRun) and command.resumes else nullcontext():
        _carry_out(command, arguments)


def _carry_out(command: Command, arguments: list[str]) -> None:
    if isinstance(command, Common):
        command = complete(arguments)
    if not begin(command):
        return
    if isinstance(command, Common) and command.sized:
        from onestride.runs.run import check_preset_matches_task

        preset = presets.load(command.preset)
        check_preset_matches_task(command.run, command.preset, preset.task, preset.data.name)
        made_with = preset_of_run(command.run)
        if made_with not in (None, command.preset):
            print(f"onestride: preset '{made_with}' made the data in {command.run}; settings are now those of preset "
                  f"'{command.preset}', as given", file=sys.stderr)  # fmt: skip
    if isinstance(command, Train):
        command.check()
    from onestride.scale.place import working_on

    on = command.on if isinstance(command, Scalable) else "local"
    try:
        with working_on(on, getattr(command, "run", Path())):
            command()  # type: ignore[operator]
    except UntrainedError as error:  # whatever found that out does not know with which preset
        if not (isinstance(command, Common) and command.sized):
            raise
        raise UntrainedError(error.folder, command.preset) from error


def _preset_of(kind: type[Command], arguments: list[str]) -> str:
    """The preset of a command, which decides the other defaults: the one that was typed, else the run's."""
    if (typed := _value(arguments, "--preset")) is not None:
        return typed
    run = preset_of_run(Path(_value(arguments, "--run") or kind.run)) if issubclass(kind, Common) else None
    return run if run in presets.PRESETS else PRESET


def _value(arguments: list[str], option: str) -> str | None:
    """The value of an option, wherever it stands; None: it was not typed."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{option}="):
            return argument.split("=", 1)[1]
    return None


def _to_train(arguments: list[str]) -> str | None:
    """NAME of ``train NAME``; None: none is named."""
    return arguments[1] if len(arguments) > 1 and not arguments[1].startswith("-") else None


def _typed(default: Command, arguments: list[str], words: int = 1, **how: Any) -> Any:
    """Let tyro read what follows the first ``words``, which name the command."""
    prog, kind = f"onestride {' '.join(arguments[:words])}", type(default)
    said = help_of(default, arguments)
    return tyro.cli(kind, default=default, args=arguments[words:], prog=prog, description=said, **how)


def _any_of_all(arguments: list[str]) -> Command:
    """Let tyro list all commands."""
    choices = tuple(
        Annotated[kind, tyro.conf.subcommand(name, default=kind(), description=first_paragraph(kind.__doc__ or ""))]
        for name, kind in COMMANDS.items()
    )
    said = described((__doc__ or "").replace("``", ""))
    return tyro.cli(Union[choices], args=arguments, prog="onestride", description=said)  # type: ignore[arg-type] # noqa: UP007


def _without_preset(kind: type[Command], arguments: list[str]) -> Command:
    """Return a command whose settings of a preset are left for later; every other option is checked."""
    default: Any = kind(preset=_preset_of(kind, arguments)) if issubclass(kind, Common) else kind()
    later = kind.of_preset if issubclass(kind, Common) else ()
    words = 2 if kind is Train else 1
    if not later:
        return _typed(default, arguments, words)
    command, unknown = _typed(default, arguments, words, return_unknown_args=True)
    options = [each.split("=")[0] for each in unknown if each.startswith("-") and not _is_number(each)]
    for option in options:
        if option.lstrip("-").split(".")[0] not in later:
            near = nearest(option, [f"--{name}" for name in (*kind.__dataclass_fields__, *later)])
            hint = f" Did you mean {near}?" if near else ""
            raise ValueError(f"`onestride {kind.__name__.lower()}` takes no {option}.{hint} See --help")
    return command


def _is_number(argument: str) -> bool:
    try:
        float(argument)
    except ValueError:
        return False
    return True
