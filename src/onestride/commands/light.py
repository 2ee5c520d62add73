"""The commands that a robot's computer carries out without torch, each with the extra that brings what it needs."""

from __future__ import annotations

import tyro

from onestride.commands.base import announce, begin
from onestride.commands.help import help_of
from onestride.commands.serve import Serve
from onestride.commands.share import Pull, Push

Light = Serve | Push | Pull
COMMANDS: dict[str, type[Light]] = {"serve": Serve, "push": Push, "pull": Pull}


def parse(arguments: list[str]) -> Light:
    """Return the command that was typed; the first word is its name.

    Raises:
        SystemExit: tyro refused an option.
    """
    name, kind = arguments[0], COMMANDS[arguments[0]]
    said = help_of(kind(), arguments)
    return tyro.cli(kind, args=arguments[1:], prog=f"onestride {name}", description=said)


def carry_out(command: Light, arguments: list[str], said: str | None) -> None:
    """Do what a command says, or print it where that is all that was asked for; ``said`` is printed first."""
    announce(command, arguments, said)
    if begin(command):
        command()
