"""A robot's driver in a process of its own, which stops the robot when the program that drives it is gone.

A program can be killed, paused, or stuck, and then sends nothing, not even a stop. So the driver lives in a process of
its own and stops the robot by itself

- at once when the other process ends, ``kill -9`` included: the system closes its sockets;
- when no command has come for ``timeout`` [s], because it is paused, stuck, or has lost its way;
- when a command cannot be carried out, or is not as it should be: other names, no finite number;
- when this process is told to end (SIGTERM, SIGHUP). Ctrl-C in the other's terminal does not reach it.

What has been stopped stays stopped. The watch begins with the first command. It cannot help when this process itself is
killed, or when the driver hangs in ``write()``; that has to be the robot's own firmware's work.

This file needs Python 3.8 and nothing else, for vendors' libraries that need an environment of their own. The other
side is ``robot_process.py``.

A driver is a class with ``observation`` and ``command`` (name -> unit), ``read() -> (values by name, their time by
time.perf_counter())``, ``write(values by name)``, ``stop()`` and ``fault() -> str or None``; ``read`` and ``fault`` are
called in another thread than the rest. One that has to be told continuously has ``follow()``, which is called every
``period`` [s] after the first command.
"""

from __future__ import annotations

import argparse
import json
import math
import select
import signal
import socket
import sys
import threading
import time

#: Between two attempts to stop a robot whose ``stop()`` raises, and how long it is tried after the other side went [s].
AGAIN, LONGEST = 0.1, 10.0


class Watchdog:
    """What stands between the messages and the driver.

    Attributes:
        reason: why the robot was stopped, or None.
        done: number of the last command that was carried out, or refused.
    """

    def __init__(self, driver, timeout):
        self.driver, self.timeout = driver, timeout
        self.reason, self.done = None, 0
        self._stands = False  # whether stop() has succeeded
        self._heard = None  # when the last command came [s]
        self._follows = None  # when the driver follows next [s]

    def wait(self):
        """Return how long may be waited for a message until something is due [s]; None: as long as it takes."""
        if self.reason is not None:
            return None if self._stands else AGAIN
        due = [t for t in (self._heard and self._heard + self.timeout, self._follows) if t is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def command(self, message):
        """Carry out a command, unless the robot has been stopped."""
        if self.reason is None:
            self._carry_out(message["write"])
        self.done = message["number"]

    def _carry_out(self, values):
        names = self.driver.command
        if values.keys() != names.keys() or not all(math.isfinite(value) for value in values.values()):
            self.stop(f"a command was refused: {values}, expected finite {list(names)}")
            return
        try:
            self.driver.write(values)
        except Exception as error:  # whatever it is: nobody else would stop the robot
            self.stop(f"the driver failed in write(): {error!r}")
        self._heard = time.monotonic()
        if self._follows is None and hasattr(self.driver, "follow"):
            self._follows = self._heard

    def check(self):
        """Stop the robot where no command has come in time, try again where it could not be stopped, follow."""
        now = time.monotonic()
        if self.reason is not None:
            if not self._stands:
                self.stop(self.reason)
        elif self._heard is not None and now >= self._heard + self.timeout:
            self.stop(f"the watchdog stopped it: no command for {self.timeout:g} s")
        elif self._follows is not None and now >= self._follows:
            try:
                self.driver.follow()
            except Exception as error:
                self.stop(f"the driver failed in follow(): {error!r}")
            self._follows = max(self._follows + self.driver.period, now)

    def stop(self, reason):
        """Stop the robot for good, and return whether that succeeded; the first reason counts."""
        self.reason = self.reason or reason
        try:
            self.driver.stop()
            self._stands = True
        except Exception as error:
            print(f"stop() failed: {error!r}", file=sys.stderr, flush=True)
        return self._stands


class Lines:
    """JSON objects, a line each, over a socket."""

    def __init__(self, channel):
        self.channel, self._rest = channel, b""

    def receive(self):
        """Wait for data and return the messages in it; None at the end."""
        data = self.channel.recv(1 << 16)
        if not data:
            return None
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in whole]

    def send(self, message):
        """Send a message."""
        self.channel.sendall(json.dumps(message).encode() + b"\n")


def serve(driver, timeout, commands, readings):
    """Carry out what comes over two sockets until they are closed; the robot is stopped at the end in any case.

    Args:
        driver: the robot's.
        timeout: the robot is stopped when no command has come for so long [s].
        commands: a socket of {"write": values, "number": n} and {"stop": reason}; the latter is answered.
        readings: a socket of {"read": true} and {"fault": true}, each of which is answered.
    """
    watch, lines = Watchdog(driver, timeout), Lines(commands)
    threading.Thread(target=_answer, args=(watch, Lines(readings)), daemon=True).start()
    why = "the driver's process ended"
    try:
        lines.send({"observation": dict(driver.observation), "command": dict(driver.command)})
        while True:
            ready, _, _ = select.select([commands], [], [], watch.wait())
            messages = lines.receive() if ready else []
            if messages is None:
                why = "the process that drove it is gone"
                return
            for message in [m for m in messages if "stop" in m]:
                lines.send({"stopped": watch.stop(message["stop"])})
            for message in [m for m in messages if "write" in m][-1:]:  # of several that wait the newest
                watch.command(message)
            watch.check()
    except OSError as error:  # the other side went while it was answered
        why = f"the process that drove it is gone ({error})"
    finally:
        give_up = time.monotonic() + LONGEST
        while not watch.stop(why) and time.monotonic() < give_up:
            time.sleep(AGAIN)


def _answer(watch, lines):
    """Answer what is asked of the robot's state, in a thread of its own: a sensor that hangs delays no stop."""
    try:
        while True:
            messages = lines.receive()
            if messages is None:
                return
            for message in messages:
                lines.send(_state(watch, message))
    except OSError:
        return


def _state(watch, message):
    try:
        if "fault" in message:
            return {"fault": watch.reason or watch.driver.fault(), "done": watch.done}
        values, sampled = watch.driver.read()
        return {"values": {name: float(value) for name, value in values.items()}, "time": sampled}
    except Exception as error:  # told to the other side, which ends its episode
        return {"error": f"{error!r}"}


def main(make, parser=None):
    """Run a driver as ``robot_process.RobotProcess`` starts it: ``make(arguments)`` returns it, connected."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, nargs=2, required=True, help="given by robot_process.RobotProcess")
    parser.add_argument("--watchdog", type=float, required=True, help="stops when no command came for so long [s]")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    commands, readings = (socket.socket(fileno=number) for number in arguments.sockets)
    serve(make(arguments), arguments.watchdog, commands, readings)
