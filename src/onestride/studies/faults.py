"""The control loop measured while its process is disturbed on purpose: a simulated robot, in real time.

python -m onestride.studies.faults exported/cheetah --kind pause --every 2 --length 0.3 --rate 100 --duration 60 \\
    --out results/realtime/halfcheetah-pause.json [--realtime]

busy: the deciding thread burns a core. pause: the whole process is stopped and continued; an interactive shell takes
that for Ctrl-Z, so put `setsid -w` before the command. Without faults: `onestride run --duration`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from onestride.control.fallback import FallbackTimeouts
from onestride.errors import command_line, report_user_errors
from onestride.latency import soak
from onestride.latency.fault_injection import Fault, Kind
from onestride.studies import realtime


@dataclass(frozen=True)
class Arguments:
    """A trained policy's folder, or an exported engine's; faults ``length`` seconds long every ``every`` seconds."""

    folder: tyro.conf.Positional[Path]
    out: Path
    kind: Kind = "pause"
    every: float = 2.0
    length: float = 0.3
    duration: float = 60.0
    rate: float | None = None
    """Decisions per second [Hz]; default: the task's own rate."""
    realtime: bool = False


def main(arguments: Arguments) -> None:
    fault = Fault(arguments.kind, arguments.every, arguments.length)
    realtime.targets(arguments.out)
    loaded = soak.load_policy_or_engine(arguments.folder, "cpu")
    rate = arguments.rate or 1 / loaded.task.control.control_dt
    timeouts = FallbackTimeouts.at(1 / rate, None, None, None)
    config = soak.SoakConfig(arguments.duration, rate, timeouts, fault=fault, realtime=arguments.realtime)
    record = soak.Record(config)
    soak.run_soak(loaded, loaded.task.scenes(soak.SCENES, 0), config, record)
    command = command_line("onestride.studies.faults")
    report = realtime.write(arguments.out, record, loaded, config, arguments.folder.name, command)
    (row,) = report["rows"].values()
    print(json.dumps({name: value["mean"] for name, value in row.items()}, indent=2))


if __name__ == "__main__":
    with report_user_errors():
        main(tyro.cli(Arguments, description=__doc__))
