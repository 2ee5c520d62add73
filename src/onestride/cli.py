"""The ``onestride`` program's entry: what was typed is carried out, or refused in one line."""

from __future__ import annotations

import sys
from contextlib import suppress

from onestride.errors import report_user_errors
from onestride.termination import Terminated

#: Commands that need no torch -> the extra that brings what they need, see ``commands/light.py``.
LIGHT = {"serve": "serve", "push": "hub", "pull": "hub"}


def main(arguments: list[str] | None = None, said: str | None = None) -> None:
    """Entry point. Errors a user can mend are one message on stderr and exit code 2.

    Args:
        arguments: What was typed after the program's name; None: take it from the system.
        said: A line for the user, printed before a command is carried out.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--version"]:
        print_version()
        return
    extra = LIGHT.get(arguments[0]) if arguments else None
    command = None
    try:
        with report_user_errors(extra):
            if extra is None:
                from onestride.commands import program  # its packages may not be installed

                command = program.parse(arguments)
                program.carry_out(command, arguments, said)
            else:
                from onestride.commands import light

                command = light.parse(arguments)
                light.carry_out(command, arguments, said)
    except (KeyboardInterrupt, Terminated) as ending:
        goes_on = getattr(command, "resumes", False)
        with suppress(OSError):  # its terminal may be gone
            print(f"\nonestride: stopped{'; the same command goes on from here' * goes_on}", file=sys.stderr)
        raise SystemExit(ending.code if isinstance(ending, Terminated) else 130) from None


def print_version() -> None:
    """Print this version, and one line of what it runs on, for a report of a fault."""
    import platform

    from onestride import __version__
    from onestride.files import versions

    print(f"onestride {__version__}")
    runs_on = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "onestride")
    print(f"{runs_on}, {platform.system()} {platform.machine()}")


if __name__ == "__main__":
    main()
