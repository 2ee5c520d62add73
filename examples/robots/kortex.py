"""Kinova's Gen3 over Kortex, in a process of its own: Kinova's library wants an old protobuf.

    python3.9 -m venv kortex && kortex/bin/pip install kortex_api-2.6.0-py3-none-any.whl     # from Kinova

``RobotProcess(["kortex/bin/python", "kortex.py", "--ip", "192.168.1.10"])`` starts it, see ``robot_process.py``. Its
numbers are the tool's, in the base's frame: ``base/tool.x`` ... [m] and ``base/tool.vx`` ... [m/s]. It is told where
the tool should be, and keeps its orientation.

Twists are sent toward the last target 25 times a second (Kortex takes 40 at most), no faster than --speed. A twist
never expires on the arm. While this process lives, the tool stops at its target when no command comes, and then the
watchdog stops the arm. If this process is killed, nothing here stops the arm: stand at the emergency stop.

Tried against a stand-in of Kinova's library alone, written from its documentation. Not tried on an arm.
"""

import argparse
import math
import os
import threading
import time

import watchdog

#: The speed of the tool is its distance from the target over this time [s], up to --speed.
SETTLE = 0.15
TCP, UDP = 10000, 10001
#: Of a session with the arm, as in Kinova's examples [ms].
CONNECTION_MS, SESSION_MS = 2000, 10000
AXES = ("x", "y", "z")


class KortexArm:
    """A driver of a Gen3 by ``BaseClient`` and ``BaseCyclicClient`` of Kinova's library."""

    period = 0.04

    def __init__(self, base, cyclic, speed):
        from kortex_api.autogen.messages import Base_pb2

        self.base, self.cyclic, self.speed, self._messages = base, cyclic, speed, Base_pb2
        self.command = {f"base/tool.{axis}": "m" for axis in AXES}
        self.observation = dict(self.command, **{f"base/tool.v{axis}": "m/s" for axis in AXES})
        self._asking, self._target, self._fault = threading.Lock(), None, None
        mode = Base_pb2.ServoingModeInformation()
        mode.servoing_mode = Base_pb2.SINGLE_LEVEL_SERVOING
        base.SetServoingMode(mode)

    def _feedback(self):
        """Ask for the arm's state; its faults are remembered."""
        with self._asking:
            state = self.cyclic.RefreshFeedback().base
        bits = state.fault_bank_a, state.fault_bank_b
        if any(bits):
            self._fault = "the arm reports faults (banks A and B): {:#x}, {:#x}".format(*bits)
        return state

    def read(self):
        """Return the tool's position and velocity, and when they were asked for."""
        asked = time.perf_counter()
        state = self._feedback()
        values = {f"base/tool.{axis}": getattr(state, f"tool_pose_{axis}") for axis in AXES}
        values.update({f"base/tool.v{axis}": getattr(state, f"tool_twist_linear_{axis}") for axis in AXES})
        return values, asked

    def write(self, command):
        """Go to this position."""
        self._target = [command[f"base/tool.{axis}"] for axis in AXES]

    def follow(self):
        """Send the twist toward the last target; at the target it is zero."""
        state = self._feedback()
        way = [goal - getattr(state, f"tool_pose_{axis}") for goal, axis in zip(self._target, AXES)]  # noqa: B905
        fast = math.sqrt(sum(d * d for d in way)) / SETTLE
        share = min(1.0, self.speed / fast) / SETTLE if fast > 0 else 0.0
        command = self._messages.TwistCommand()
        command.reference_frame = self._messages.CARTESIAN_REFERENCE_FRAME_BASE
        command.duration = 0
        for axis, distance in zip(AXES, way):  # noqa: B905 (Python 3.8)
            setattr(command.twist, f"linear_{axis}", share * distance)
            setattr(command.twist, f"angular_{axis}", 0.0)
        self.base.SendTwistCommand(command)

    def stop(self):
        """Have the arm stop."""
        self.base.Stop()

    def fault(self):
        """Return the arm's faults, as of the last reading."""
        return self._fault


def connect(arguments):
    """Return the driver of an arm, over two sessions: commands by TCP, feedback by UDP."""
    from kortex_api.autogen.client_stubs.BaseClientRpc import BaseClient
    from kortex_api.autogen.client_stubs.BaseCyclicClientRpc import BaseCyclicClient
    from kortex_api.autogen.messages import Session_pb2
    from kortex_api.RouterClient import RouterClient
    from kortex_api.SessionManager import SessionManager
    from kortex_api.TCPTransport import TCPTransport
    from kortex_api.UDPTransport import UDPTransport

    word, routers = os.environ.get("KORTEX_PASSWORD"), []
    if word is None:
        raise SystemExit(f"put the password of '{arguments.user}' on the arm into $KORTEX_PASSWORD")
    for transport, port in ((TCPTransport(), TCP), (UDPTransport(), UDP)):
        router = RouterClient(transport, RouterClient.basicErrorCallback)
        transport.connect(arguments.ip, port)
        session = Session_pb2.CreateSessionInfo()
        session.username, session.password = arguments.user, word
        session.session_inactivity_timeout, session.connection_inactivity_timeout = SESSION_MS, CONNECTION_MS
        SessionManager(router).CreateSession(session)
        routers.append(router)
    return KortexArm(BaseClient(routers[0]), BaseCyclicClient(routers[1]), arguments.speed)


PARSER = argparse.ArgumentParser(description="A Kinova Gen3; robot_process.py starts it.")
PARSER.add_argument("--ip", default="192.168.1.10")
PARSER.add_argument("--user", default="admin")
PARSER.add_argument("--speed", type=float, default=0.05, help="highest speed of the tool [m/s]; 0.05 for a first try")

if __name__ == "__main__":
    watchdog.main(connect, PARSER)
