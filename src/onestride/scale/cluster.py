"""A Ray cluster that carries out units of work: of this machine alone, or one that is there already.

A process that is killed loses the unit that it was at, which another one does again; a machine that is lost loses those
that it was at. Nothing else is kept in the cluster: results are files in a folder that every machine sees.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from onestride.cores import usable_cores
from onestride.files import CheckpointError, ensure_writable, versions
from onestride.progress import console
from onestride.scale.units import Result, Unit, finished
from onestride.scale.worker import TOKEN, answer_file, look, order, processor, token_file, work

LOCAL, HERE, REMOTE = "local", "ray", "ray://"
RETRIES = 20  # times that a unit is begun again whose process was killed
STORE = 100 << 20  # shared memory that Ray takes here [bytes]; results are files, and need none
ANSWER = 5.0  # time within which an address must answer [s]
APPEARS = 60.0  # time within which a file that another machine wrote is seen here, as on NFS [s]


class WorkRefusedError(ValueError):
    """Raised for a unit of work that a process refused. The message says what to do."""


def check_address(on: str) -> None:
    """Raise ValueError unless ``on`` is "local", "ray" or "ray://HOST:PORT"."""
    host, colon, port = on.removeprefix(REMOTE).rpartition(":")
    if on in (LOCAL, HERE) or (on.startswith(REMOTE) and colon and host and port.isdigit()):
        return
    raise ValueError(
        f"--on is {on!r}; expected local (processes of this machine), ray (a Ray of this machine alone) or "
        "ray://HOST:PORT (a cluster's client port, by default 10001)"
    )


class Cluster:
    """Connected machines.

    Args:
        ray: the module, connected.
        root: a folder that every machine sees; all units are of folders below it.
        token: of this command.
    """

    def __init__(self, ray: Any, root: Path, token: str) -> None:
        self.ray, self.root, self.token = ray, root, token
        self.cpu_s: dict[str, float] = {}  # CPU time of every unit [s]
        self._work = ray.remote(work)

    @property
    def cpus(self) -> int:
        """How many units it does at a time."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    @property
    def has_gpu(self) -> bool:
        """Whether a machine of it has one."""
        return self.ray.cluster_resources().get("GPU", 0) >= 1

    def run(
        self, units: Sequence[Unit], folder: Path, *, gpu: bool = False, again: bool = False
    ) -> Iterator[tuple[Unit, Result]]:
        """Yield every unit with its result: first those that are done already, then the others as they come.

        Args:
            units: what is to be done.
            folder: below the root, where each unit has its file.
            gpu: whether a unit takes a GPU to itself; each has one CPU core, and one thread of torch's.
            again: also do what is done already: units that know by themselves what of them is.

        Raises:
            WorkRefusedError: a unit cannot be done, for a reason that a person can mend.
            OSError: a unit's process was killed again and again.
        """
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        missing = []
        for unit in units:
            result = None if again else finished(unit, folder)
            if result is None:
                unit.path(folder).unlink(missing_ok=True)
                missing.append(unit)
            else:
                yield unit, result
        environment = {name: value for name, value in os.environ.items() if name.startswith("ONESTRIDE_")}
        task = self._work.options(num_cpus=1, num_gpus=int(gpu), max_retries=RETRIES)
        window, waiting, pending = 4 * self.cpus, iter(missing), {}
        try:
            while True:
                for unit in waiting:
                    pending[task.remote(order(self.root, self.token, folder, unit, environment))] = unit
                    if len(pending) >= window:
                        break
                if not pending:
                    return
                (done, *_), _ = self.ray.wait(list(pending), num_returns=1)
                unit = pending.pop(done)
                said = self._said(done, unit)
                self.cpu_s[unit.name] = said["cpu_s"]
                yield unit, _appeared(unit, folder, said["host"])
        finally:
            for left in pending:
                with suppress(self.ray.exceptions.RayError, ConnectionError):
                    self.ray.cancel(left, force=True)

    def _said(self, done: Any, unit: Unit) -> dict[str, Any]:
        errors = self.ray.exceptions
        try:
            said: dict[str, Any] = json.loads(self.ray.get(done))
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            raise OSError(
                f"the process that did '{unit.name}' was killed {RETRIES + 1} times, perhaps for want of memory; what "
                "is finished is kept, and the same command goes on from there"
            ) from error
        if "refused" in said:
            raise WorkRefusedError(f"{unit.name}: {said['refused']}")
        return said


def _appeared(unit: Unit, folder: Path, host: str) -> Result:
    """Return the result that another machine has written; its file may be seen here some moments later."""
    until = time.monotonic() + APPEARS
    while (result := finished(unit, folder)) is None:
        if time.monotonic() > until:
            raise CheckpointError(
                f"machine {host} has written {unit.path(folder)}, and it is not here after {APPEARS:.0f} s: the folder "
                "must be on a file system that all machines see"
            )
        time.sleep(0.05)
    return result


# ---------------------------------------------------------------- connecting


@contextmanager
def connected(on: str, root: Path, processes: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster while the block lasts, after every machine of it has shown that it can work on ``root``.

    Args:
        on: "ray" or "ray://HOST:PORT".
        root: the folder of the run.
        processes: of a Ray of this machine; None: one per usable core.

    Raises:
        ValueError: nobody answers there, another version runs there, or a machine does not see the folder.
    """
    import ray

    ensure_writable(root)
    root, token = root.resolve(), secrets.token_hex(8)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if on == HERE:
            _start(ray, usable_cores() if processes is None else processes, quiet)
        else:
            _answers(on)
            _enter(ray, on, quiet)
        token_file(root, token).write_text(token)
        cluster = Cluster(ray, root, token)
        _check_machines(cluster, on)
        yield cluster
    finally:
        ray.shutdown()
        for left in root.glob(f"{TOKEN}.{token}*"):
            left.unlink(missing_ok=True)


def _start(ray: Any, processes: int, quiet: dict[str, Any]) -> None:
    settings = {"num_cpus": processes, "include_dashboard": False, "object_store_memory": STORE}
    try:
        ray.init(address="local", **settings, **quiet)
    except Exception as error:  # Ray has no class of its own for this
        if "timed out during startup" not in str(error):
            raise
        raise OSError(
            "Ray did not start on this machine within the time that it gives itself (30 s): perhaps the machine is "
            "busy; repeat the command, or leave --on away"
        ) from error


def _answers(on: str) -> None:
    host, _, port = on.removeprefix(REMOTE).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"nobody answers at {on} ({error}); is Ray running there (`ray start --head`), and is {port} its client "
            "port?"
        ) from error


def _enter(ray: Any, on: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(on, **quiet)
    except (ConnectionError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        here = f"Ray {ray.__version__} on Python {sys.version.split()[0]}"
        raise ValueError(f"{on} does not take this program, which has {here}: {' '.join(lines)[:300]}") from error


def _check_machines(cluster: Cluster, on: str) -> None:
    """Raise ValueError unless every machine of the cluster sees the root folder and has the same versions."""
    ray, said = cluster.ray, {}
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(look)
    for node in ray.nodes():
        if node["Alive"]:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked = json.dumps({"root": str(cluster.root), "token": cluster.token, "node": node["NodeID"]})
            said[node["NodeID"]] = probe.options(num_cpus=0, scheduling_strategy=place).remote(asked)
    try:
        machines = {node: json.loads(ray.get(answer)) for node, answer in said.items()}
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"a machine of {on} cannot work for this program ({why}); install onestride {versions()['onestride']} there"
        ) from error
    for node, machine in machines.items():
        check_machine(machine, answer_file(cluster.root, cluster.token, node).is_file(), cluster.root)
    if len({tuple(machine["processor"]) for machine in machines.values()} | {tuple(processor())}) > 1:
        console.print(
            "onestride: the machines' processors differ in their vector instructions, and numbers may differ in their "
            "last digits from those of one machine",
            highlight=False,
        )


def check_machine(said: dict[str, Any], answered: bool, root: Path) -> None:
    """Raise ValueError unless a machine sees the root folder, and has the versions that are here.

    Args:
        said: what ``worker.look`` returned there.
        answered: whether the answer that it wrote is seen here.
        root: the folder.
    """
    if not (said["sees"] and answered):
        raise ValueError(
            f"machine {said['host']} of the cluster does not see {root} as it is here: put the run on a file system "
            "that all machines have at the same path, such as NFS"
        )
    ours = versions()
    for name in sorted(ours | said["versions"]):
        here, there = ours.get(name, "none"), said["versions"].get(name, "none")
        if here != there:
            raise ValueError(
                f"machine {said['host']} of the cluster has {name} {there}, and here it is {here}: install the same "
                "versions everywhere, or numbers would differ"
            )
