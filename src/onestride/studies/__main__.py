"""Measure a study: ``python -m onestride.studies NAME ... [--out FILE]``.

``--help`` after a name says what it takes. Its table is printed, and its record written where ``--out`` says.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from onestride.errors import command_line, report_user_errors

#: Studies with a function ``measure``, which takes its arguments and returns what goes into the record.
MEASURED = (
    "candidate_sampling", "chunking", "clearance", "clearance_tracking", "decision_delay", "mode_coverage",
    "off_dynamics_payload", "scale", "serving", "startup", "training_speed", "viewer",
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure the study that the first argument names.

    Raises:
        ValueError: there is none.
        FileExistsError: ``--out`` is there already, or OSError: it cannot be written. Before any work.
    """
    name, *rest = arguments or ("",)
    if name not in MEASURED:
        raise ValueError(f"'{name}' is no study that measures; there are {', '.join(MEASURED)}")

    import tyro  # an extra brings what studies need

    from onestride.evaluation.result import Experiment
    from onestride.progress import console
    from onestride.reports.table import terminal

    parser = ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path)
    asked, rest = parser.parse_known_args(rest)
    study = import_module(f"onestride.studies.{name}")
    experiment = Experiment(name, command_line("onestride.studies"), asked.out)
    made = tyro.cli(study.measure, args=rest, prog=f"onestride.studies {name} [--out FILE]", description=study.__doc__)
    experiment.record(**made, show=lambda record: console.print(terminal(study.table(record), name)))


if __name__ == "__main__":
    with report_user_errors():
        main(sys.argv[1:])
