"""The ``onestride`` program's entry: what was typed is carried out, or refused in one line."""

from __future__ import annotations

import sys

from onestride.errors import report_user_errors


def main(arguments: list[str] | None = None, said: str | None = None) -> None:
    """Entry point. Errors a user can mend are one message on stderr and exit code 2.

    Args:
        arguments: What was typed after the program's name; None: take it from the system.
        said: A line for the user, printed before a command is carried out.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = None
    try:
        with report_user_errors():
            from onestride.commands import program  # torch takes seconds, and may not be installed

            command = program.parse(arguments)
            program.carry_out(command, said)
    except KeyboardInterrupt:
        goes_on = getattr(command, "resumes", False)
        print(f"\nonestride: stopped{'; the same command goes on from here' * goes_on}", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
