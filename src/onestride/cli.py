"""The ``onestride`` program: one command per stage, and ``quickstart`` for all of them.

Every command works on one run folder and may be repeated: what is finished is left alone, what was killed
goes on. ``--preset`` fills in everything else; every single value can be given on top.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import Annotated, Union

import tyro

from onestride.commands.base import Common, InRun, mendable
from onestride.commands.compare import Evaluate, Quickstart, Reproduce
from onestride.commands.drive import Bench, Export, Run
from onestride.commands.stages import Collect, Consistent, Critic, Distill, Edm, Import, Pairs, Returns, Teacher
from onestride.runs import presets
from onestride.runs.presets import Preset

Command = InRun | Export | Bench


def _commands(preset: Preset, name: str) -> dict[str, Command]:
    """Every command with the preset's values as defaults."""
    return {
        "collect": Collect(preset=name, task=preset.task, amount=preset.amount, seed=preset.data_seed),
        "import": Import(preset=name, task=preset.task),
        **_learned(preset, name),
        "pairs": Pairs(preset=name, pairs=preset.pairs),
        "distill": Distill(preset=name, student=preset.student, training=preset.student_training),
        "evaluate": Evaluate(preset=name, evaluate=preset.evaluate),
        "run": Run(preset=name),
        "export": Export(),
        "bench": Bench(preset=name),
        "quickstart": Quickstart(preset=name),
        "reproduce": Reproduce(),
    }


def _learned(preset: Preset, name: str) -> dict[str, InRun]:
    """The training commands, with what only some tasks have where the preset has it."""
    teacher = Teacher(preset=name, teacher=preset.teacher, training=preset.teacher_training)
    made: dict[str, InRun] = {}
    if (s := preset.selectors) is not None:
        made["returns"] = Returns(preset=name, returns=s.returns, training=s.returns_training)
        drawn = asdict(s.sampling) if s.sampling else {}
        made["critic"] = Critic(preset=name, iql=s.critic, training=s.critic_training, rows=s.judged_rows, **drawn)
        teacher = replace(teacher, guidance=s.guidance)
    made["teacher"] = teacher
    if (c := preset.consistency) is not None:
        made["edm"] = Edm(preset=name, edm=c.edm, training=c.edm_training, horizon=c.horizon)
        made["consistency"] = Consistent(preset=name, student=c.student, training=c.student_training, horizon=c.horizon)
    return made


def _preset_asked_for(arguments: list[str]) -> str:
    """The value of ``--preset``, wherever it stands: it decides the other defaults."""
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--preset="):
            return argument.split("=", 1)[1]
    return "demo"


def _only_elsewhere(arguments: list[str], commands: dict[str, Command], name: str) -> None:
    """Raise ``ValueError`` for a command that other presets have, and this one has not."""
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    if asked is None or asked in commands:
        return
    having = [other for other, preset in presets.PRESETS.items() if asked in _commands(preset(), other)]
    if having:
        raise ValueError(f"`{asked}` is nothing that preset '{name}' needs; it is of --preset {', '.join(having)}")


def _parse(defaults: dict[str, Command], arguments: list[str]) -> Command:
    choices = tuple(
        Annotated[type(default), tyro.conf.subcommand(name, default=default, description=type(default).__doc__)]
        for name, default in defaults.items()
    )
    return tyro.cli(Union[choices], args=arguments, prog="onestride", description=__doc__)  # type: ignore[arg-type] # noqa: UP007


def main(arguments: list[str] | None = None, said: str | None = None) -> None:
    """Entry point. Errors a user can mend are one message on stderr and exit code 2.

    Args:
        arguments: What was typed after the program's name; None: take it from the system.
        said: A line for the user, printed before a command is carried out.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = None
    try:
        with mendable():
            name = _preset_asked_for(arguments)
            preset = presets.load(name)
            commands = _commands(preset, name)
            _only_elsewhere(arguments, commands, name)
            command = _parse(commands, arguments)
            _carry_out(command, said)
    except KeyboardInterrupt:
        goes_on = getattr(command, "resumes", False)
        print(f"\nonestride: stopped{'; the same command goes on from here' * goes_on}", file=sys.stderr)
        raise SystemExit(130) from None


def _carry_out(command: Command, said: str | None) -> None:
    if command.dry_run:
        print(json.dumps({"command": type(command).__name__.lower(), **asdict(command)}, indent=2, default=str))
        return
    if said is not None:
        print(f"onestride: {said}", file=sys.stderr)
    if (device := getattr(command, "device", "cpu")) != "cpu":  # torch takes seconds to import
        from onestride.device import resolve_device

        resolve_device(device)
    if isinstance(command, Common) and command.sized:
        from onestride.runs.run import fits

        fits(command.run, command.preset, presets.load(command.preset).task)
    if isinstance(command, Common) and command.task and ":" in command.task:
        from onestride.tasks import TASKS

        TASKS.resolve(command.task)
    command()  # type: ignore[operator]


if __name__ == "__main__":
    main()
