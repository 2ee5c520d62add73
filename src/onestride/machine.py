"""What numbers were measured on: the machine, and the commit of the sources."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from onestride.cores import usable_cores

#: Vector instructions that decide how fast a processor is here, as Linux names them.
VECTORS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp")


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """Return the commit that the sources in ``folder`` are of, with ``-dirty`` where tracked files differ from it.

    None where they are not under version control: an installed package.
    """
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        for arguments in (["ls-files", "--error-unmatch", "."], describe):  # a package may lie inside another project
            said = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
            if said.returncode:
                return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip()


def machine() -> dict[str, Any]:
    """Return what a result says of the machine it was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    return {
        "cpu": platform.processor() or platform.machine(),
        **(processor(cpuinfo.read_text()) if cpuinfo.exists() else {}),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "system": platform.system(),
    }


def processor(cpuinfo: str) -> dict[str, Any]:
    """Return what Linux says of the first processor: its name, its generation, which vector instructions it has.

    Virtual machines often call it by its family alone ("AMD EPYC"): maker, family, model and stepping tell which.
    """
    lines = (line.split(":", 1) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line)
    said = {name.strip(): value.strip() for name, value in lines}
    names = {"vendor_id": "", "cpu family": "family ", "model": "model ", "stepping": "stepping "}  # of x86
    names |= {"CPU implementer": "implementer ", "CPU part": "part ", "CPU variant": "variant "}  # of ARM
    flags = said.get("flags", said.get("Features", "")).split()
    return {
        **({"cpu": said["model name"]} if "model name" in said else {}),
        "generation": " ".join(f"{word}{said[name]}" for name, word in names.items() if name in said),
        "vectors": [vector for vector in VECTORS if vector in flags],
    }
