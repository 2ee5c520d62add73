"""What a folder decides with: a trained policy, or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onestride.engine.engine import Engine
from onestride.engine.folder import CONTRACT, backend_of, load_contract
from onestride.errors import naming_extras
from onestride.files import ensure_checkpoint

if TYPE_CHECKING:
    from onestride.engine.backends import Backend
    from onestride.policy.policy import Policy


def load_decider(folder: Path, device: str = "cpu", engine: Backend | None = None) -> Policy | Engine:
    """Return what a folder holds: a trained policy, with ``engine`` folded and on that backend, or an exported engine.

    An exported engine needs no torch.

    Raises:
        CheckpointError: it holds neither; see ``Policy.from_pretrained`` and ``Engine.from_folder``.
        ValueError: an exported engine is asked to run on another backend or device than its own, or the policy cannot
            be folded.
        ImportError: it needs an extra that is not installed.
    """
    if (folder / CONTRACT).is_file():
        made, contract = Engine.from_folder(folder), load_contract(folder)
        if engine not in (None, "auto", backend := backend_of(contract)):
            raise ValueError(f"{folder} was exported for {backend}, which runs it; leave --engine {engine} away")
        if device != "cpu":
            raise ValueError(f"{folder} is for {backend}, which runs on the CPU; leave --device {device} away")
        return made
    ensure_checkpoint(folder)  # a wrong path needs no torch
    with naming_extras():
        from onestride.policy.policy import Policy

    policy = Policy.from_pretrained(folder, device=device)
    return policy if engine is None else Engine.from_policy(policy, engine, plan=True)  # the fallback follows plans
