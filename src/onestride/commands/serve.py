"""A policy for robots and programs elsewhere: the policy server."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from onestride.engine.folder import Backend
from onestride.files import read_bytes
from onestride.serving.address import KEY, PORT, bind, check_key, is_loopback

LONGEST_KEY = 4096  # of a file that holds one [bytes]


@dataclass(frozen=True)
class Serve:
    """Serve a trained policy or an exported engine over a websocket, in openpi's protocol.

        onestride serve runs/demo/dnk-0
        onestride serve exported/arm --port 8001

    openpi's own client connects to it. Only this machine can, unless --host says otherwise; then clients have to know a
    key. It is ready when it says so, and ends by Ctrl-C or SIGTERM. GET /healthz answers OK.
    """

    doing: ClassVar[str] = "loading {folder} to serve it on {host}:{port}"

    folder: tyro.conf.Positional[Path] = Path()
    """A trained policy's folder, such as runs/demo/dnk-0, or an exported engine's."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: all of this machine's."""
    port: int = PORT
    engine: Backend | None = None
    """Run a policy as one graph, see `onestride run`; auto measures what is fastest here."""
    device: str = "cpu"
    task: str | None = None
    """The checkpoint's task, where it comes from FILE.py:NAME or MODULE:NAME."""
    api_key_file: Path | None = None
    """A file with the key that clients send as `Authorization: Api-Key ...`. None: $ONESTRIDE_API_KEY."""
    without_key: bool = False
    """Let anyone who reaches this machine ask, though --host is not this machine alone."""
    max_clients: int = 16
    """At the same time; they take turns."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.engine.engine import Engine
        from onestride.engine.loading import load_decider
        from onestride.serving.server import PolicyServer

        key = self._key()
        if key is None and not (self.without_key or is_loopback(self.host)):
            raise ValueError(
                f"--host {self.host} lets other machines ask: put a key into ${KEY} or --api-key-file, or say "
                "--without-key"
            )
        logging.basicConfig(format="onestride: %(message)s", level=logging.WARNING)
        logging.getLogger("onestride.serving").setLevel(logging.INFO)
        with bind(self.host, self.port) as reserved:  # first: loading takes seconds
            policy = load_decider(self.folder, self.device, self.engine)
            name = self.folder.resolve().name
            server = PolicyServer(policy, sock=reserved, api_key=key, max_clients=self.max_clients, name=name)
            runs = f", {policy.chosen}" if isinstance(policy, Engine) else ""
            took = server.warm_up()
            what = f"{self.folder} ({policy.control.name}{runs})"
            said = f"{what}: {1e3 * took:.1f} ms an answer\nlistening on {server.url}"
            server.serve_forever(ready=lambda: print(said, flush=True))

    def _key(self) -> str | None:
        if self.api_key_file is not None:
            return check_key(read_bytes(self.api_key_file, LONGEST_KEY).decode(errors="replace"))
        return check_key(os.environ[KEY]) if KEY in os.environ else None
