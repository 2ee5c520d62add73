"""The control loop's side of a driver in a process of its own: see ``watchdog.py``.

    with RobotProcess([PYTHON, "examples/robots/so100.py", "--port", "/dev/ttyACM0"], watchdog=0.25) as arm:
        robot = BoundRobot(arm, Binding(columns_of(spec), arm.observation), Binding(COMMANDS, arm.command))

PYTHON is the interpreter of the environment that has the vendor's library. Numbers alone go over: no images.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from watchdog import Lines

START, STOP = 120.0, 5.0  # how long connecting to the robot may take, and stopping it [s]


class RobotProcess:
    """A ``Driver`` (see ``onestride.robot.binding``) that runs in a process of its own.

    Args:
        command: the program of the driver, such as ["python", "so100.py", "--port", "/dev/ttyACM0"].
        watchdog: it stops the robot when no command has come for so long [s]: a few control periods, and less than the
            loop's own stop (0.5 s, ``FallbackTimeouts.stop``).

    Raises:
        ConnectionError: the process ended before it was connected to the robot; it has said why.
    """

    def __init__(self, command: Sequence[str], *, watchdog: float = 0.25) -> None:
        if not watchdog > 0:
            raise ValueError(f"watchdog is {watchdog:g} s, expected more than 0")
        self.timeout, self._sent, self._done, self._progress = watchdog, 0, 0, 0.0
        pairs = socket.socketpair(), socket.socketpair()
        theirs = [str(pair[1].fileno()) for pair in pairs]
        self.process = subprocess.Popen(
            [*command, "--sockets", *theirs, "--watchdog", str(watchdog)],
            pass_fds=[pair[1].fileno() for pair in pairs],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it: it has to stop the robot
        )
        for _, there in pairs:
            there.close()
        self._commands, self._readings = (Lines(here) for here, _ in pairs)
        self._asking = threading.Lock()
        try:
            said = self._reply(self._commands, START)
        except (ConnectionError, TimeoutError) as error:
            self.close()
            raise ConnectionError(f"{' '.join(command)} did not connect to the robot: {error}") from error
        self.observation: dict[str, str] = said["observation"]
        self.command: dict[str, str] = said["command"]

    def __enter__(self) -> RobotProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the driver, which stops the robot first."""
        for lines in (self._commands, self._readings):
            lines.channel.close()
        for end in (self.process.terminate, self.process.kill):  # of one that hangs
            try:
                self.process.wait(2 * STOP)
                return
            except subprocess.TimeoutExpired:
                end()
        self.process.wait()

    def read(self) -> tuple[dict[str, float], float]:
        """Return the robot's numbers by name, and their time by ``time.perf_counter()`` [s].

        Raises:
            RuntimeError: the driver failed. ConnectionError: its process is gone.
        """
        answer = self._ask({"read": True})
        return answer["values"], answer["time"]

    def fault(self) -> str | None:
        """Return why the robot cannot go on: what the driver says, what the watchdog did, or that commands wait."""
        answer, now = self._ask({"fault": True}), time.monotonic()
        if answer["done"] > self._done or answer["done"] == self._sent:
            self._done, self._progress = answer["done"], now
        waits = now - self._progress > self.timeout and self._sent > self._done
        return answer["fault"] or (f"the driver has taken no command for {self.timeout:g} s" if waits else None)

    def write(self, command: Mapping[str, float]) -> None:
        """Send a command by name; it is not waited for."""
        if self._sent == self._done:
            self._progress = time.monotonic()
        self._sent += 1
        self._commands.channel.settimeout(self.timeout)
        self._commands.send({"write": dict(command), "number": self._sent})

    def stop(self) -> None:
        """Stop the robot for good.

        Raises:
            RuntimeError: it could not be stopped; the driver goes on trying. ConnectionError: its process is gone.
        """
        self._commands.channel.settimeout(STOP)
        self._commands.send({"stop": "it was told to stop"})
        if not self._reply(self._commands, STOP)["stopped"]:
            raise RuntimeError("the robot could not be stopped; its driver goes on trying")

    def _ask(self, message: dict[str, bool]) -> dict:
        with self._asking:
            self._readings.send(message)
            answer = self._reply(self._readings, None)  # the loop reads in a thread of its own, and does not wait
        if "error" in answer:
            raise RuntimeError(f"the robot's driver failed: {answer['error']}")
        return answer

    def _reply(self, lines: Lines, timeout: float | None) -> dict:
        lines.channel.settimeout(timeout)
        while True:
            messages = lines.receive()
            if messages is None:
                raise ConnectionError("the driver's process is gone; what the robot does now is up to its firmware")
            if messages:
                return messages[0]
