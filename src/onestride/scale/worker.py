"""What a process of a cluster does: it looks whether it sees the run's folder, and carries out one unit after another.

Everything goes in and out as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from onestride.errors import on_purpose
from onestride.files import versions
from onestride.machine import machine
from onestride.scale.units import Unit, do

TOKEN = ".cluster"  # begins the names of files in the root folder by which a machine shows that it sees the same ones


def look(order: str) -> str:
    """Return which machine this is, whether it reads the token of the root folder, and write an answer beside it.

    Args:
        order: {"root", "token", "node"}.
    """
    asked = json.loads(order)
    root, token = Path(asked["root"]), asked["token"]
    if sees := _sees(root, token):
        answer_file(root, token, asked["node"]).write_text(token)
    return json.dumps({"host": platform.node(), "sees": sees, "versions": versions(), "processor": processor()})


def processor() -> list[str]:
    """Return what of this machine's processor may change the last digits of a product: its vector instructions."""
    return list(machine().get("vectors", ()))


def work(order: str) -> str:
    """Carry out a unit; return its CPU time [s] and where it was, or why it was refused, for a person to mend.

    Args:
        order: {"root", "token", "folder", "unit": {"name", "function", "arguments"}, "environment"}.
    """
    asked = json.loads(order)
    host = platform.node()
    if not _sees(Path(asked["root"]), asked["token"]):  # else it would write where nobody looks
        return json.dumps({"refused": f"machine {host} does not see {asked['root']} as it is here"})
    os.environ.update(asked["environment"])  # a person's own tasks and methods
    torch.set_num_threads(1)
    began = time.process_time()
    try:
        do(Unit(**asked["unit"]), Path(asked["folder"]))
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        if isinstance(error, (OSError, ModuleNotFoundError)) or on_purpose(error):
            return json.dumps({"refused": str(error)})
        raise
    return json.dumps({"host": host, "cpu_s": time.process_time() - began})


def token_file(root: Path, token: str) -> Path:
    """Return the file that a command writes, and every machine has to see."""
    return root / f"{TOKEN}.{token}"


def answer_file(root: Path, token: str, node: str) -> Path:
    """Return the file that a machine writes, and the command has to see."""
    return root / f"{TOKEN}.{token}.{node}"


def _sees(root: Path, token: str) -> bool:
    path = token_file(root, token)
    return path.is_file() and path.read_text() == token


def order(root: Path, token: str, folder: Path, unit: Unit, environment: dict[str, str]) -> str:
    """Return what ``work`` is asked."""
    said: dict[str, Any] = {"name": unit.name, "function": unit.function, "arguments": dict(unit.arguments)}
    return json.dumps(
        {"root": str(root), "token": token, "folder": str(folder), "unit": said, "environment": environment}
    )
