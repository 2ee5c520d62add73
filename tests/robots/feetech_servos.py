"""Simulated Feetech STS3215 servos on a pseudo-terminal, for LeRobot's bus and Feetech's SDK."""

from __future__ import annotations

import os
import pty
import threading
import time
import tty

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
ALL = 0xFE
#: Register addresses.
MODEL, LOW, HIGH, HOMING, TORQUE, GOAL, STATUS, PRESENT = 3, 9, 11, 31, 40, 42, 65, 56
SPEED = 2000.0  # [steps/s]


class Servos:
    """A chain of servos, which go to their goals at ``SPEED`` while they have torque.

    port: the name of the serial line.
    """

    def __init__(self, calibration: dict[str, dict[str, int]], at: dict[str, int]) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port, self._slave = os.ttyname(slave), slave
        self.registers = {motor["id"]: bytearray(256) for motor in calibration.values()}
        self._ids, self._moved = {name: motor["id"] for name, motor in calibration.items()}, time.monotonic()
        self._lock = threading.Lock()
        for name, motor in calibration.items():
            for address, value in ((MODEL, 777), (LOW, motor["range_min"]), (HIGH, motor["range_max"]),
                                   (GOAL, at[name]), (PRESENT, at[name])):  # fmt: skip
                self.put(name, address, value)
            offset = motor["homing_offset"]
            self.put(name, HOMING, abs(offset) | (offset < 0) << 11)
        self.exact = {name: float(value) for name, value in at.items()}
        threading.Thread(target=self._serve, daemon=True).start()

    def put(self, name: str, address: int, value: int) -> None:
        """Write a register of two bytes."""
        self.registers[self._ids[name]][address : address + 2] = value.to_bytes(2, "little")

    def get(self, name: str, address: int) -> int:
        """Read a register of two bytes, with where the servo is now."""
        with self._lock:
            self._move()
            return int.from_bytes(self.registers[self._ids[name]][address : address + 2], "little")

    def _move(self) -> None:
        now = time.monotonic()
        reach, self._moved = SPEED * (now - self._moved), now
        for name, number in self._ids.items():
            if self.registers[number][TORQUE]:
                goal = int.from_bytes(self.registers[number][GOAL : GOAL + 2], "little")
                self.exact[name] += max(-reach, min(reach, goal - self.exact[name]))
                self.put(name, PRESENT, round(self.exact[name]))

    def _serve(self) -> None:
        data = b""
        while True:
            try:
                data += os.read(self._master, 4096)
            except OSError:  # nobody has it open
                return
            while len(data) >= 4 and len(data) >= 4 + data[3]:
                assert data[:2] == b"\xff\xff", data
                packet, data = data[: 4 + data[3]], data[4 + data[3] :]
                assert (sum(packet[2:]) & 0xFF) == 0xFF, packet  # the check sum
                with self._lock:
                    self._move()
                    self._answer(packet[2], packet[4], packet[5:-1])

    def _answer(self, number: int, instruction: int, given: bytes) -> None:
        if instruction == PING:
            self._send(number, b"")
        elif instruction == READ:
            self._send(number, self.registers[number][given[0] : given[0] + given[1]])
        elif instruction == WRITE:
            self.registers[number][given[0] : given[0] + len(given) - 1] = given[1:]
            self._send(number, b"")
        elif instruction == SYNC_READ:
            for each in given[2:]:
                self._send(each, self.registers[each][given[0] : given[0] + given[1]])
        elif instruction == SYNC_WRITE:
            address, size = given[:2]
            for i in range(2, len(given), size + 1):
                self.registers[given[i]][address : address + size] = given[i + 1 : i + 1 + size]
        else:
            raise AssertionError(f"instruction {instruction:#x}")

    def _send(self, number: int, data: bytes) -> None:
        if number in self.registers:
            body = bytes([number, len(data) + 2, 0]) + bytes(data)
            os.write(self._master, b"\xff\xff" + body + bytes([~sum(body) & 0xFF]))
