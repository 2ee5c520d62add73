"""The policy server: openpi's protocol over a websocket.

On connect it sends one map of metadata. Then each binary message is an observation, answered by a map of actions, or by
one text message where there is none: one line that says why. ``GET /healthz`` answers OK.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from onestride.errors import naming_extras
from onestride.serving.address import PORT, bind, check_key, keep_alive
from onestride.serving.messages import pack
from onestride.serving.metadata import metadata_of
from onestride.serving.observations import example_of, largest
from onestride.serving.session import Served, Session, asked_of, asking_of
from onestride.serving.turns import Turns

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

WARM_UP = 50  # decisions before the first client
HEALTH = "/healthz"
#: At most so many messages of a client wait; it is read no further meanwhile.
QUEUED = 2
#: A message that is so much too large is refused in words; one that is larger still ends its connection [bytes].
REFUSED_IN_WORDS = 8 << 20
#: How long a client's goodbye is waited for, and then a decision that somebody still waits for [s].
LONGEST_CLOSE, LONGEST_DECISION = 0.5, 1.5

log = logging.getLogger("onestride.serving")


class PolicyServer:
    """Serves one policy to several clients, which take turns.

    Decisions are made in a thread of their own, so that connections, pings and the health check never wait for one.

    Args:
        policy: a policy or an engine.
        host: address to listen on; only this machine reaches the default.
        port: 0 takes any that is free.
        api_key: what clients have to send as ``Authorization: Api-Key ...``; None: nothing.
        max_clients: at the same time; further ones are refused.
        name: of the policy, for the metadata.
        sock: a socket that holds an address already, in place of host and port, see ``bind``.

    Raises:
        OSError: the port is in use, or the address is none of this machine's.
        ValueError: a number is out of range, or the key cannot stand in a header.
    """

    def __init__(
        self,
        policy: Served,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        api_key: str | None = None,
        max_clients: int = 16,
        name: str = "",
        sock: socket.socket | None = None,
    ) -> None:
        if max_clients < 1:
            raise ValueError(f"max_clients is {max_clients}, expected at least 1")
        self.policy, self.spec, self.max_clients = policy, policy.control, max_clients
        self._usual = asked_of(policy)  # before any client asks
        self.metadata = metadata_of(self.spec, name, asking_of(policy), self._usual)
        self._key = None if api_key is None else f"Api-Key {check_key(api_key)}".encode()
        self._socket = bind(host, port) if sock is None else sock
        self._conversations: set[asyncio.Task[None]] = set()
        self._turns = Turns()

    @property
    def url(self) -> str:
        """Where clients connect."""
        host, port = self._socket.getsockname()[:2]
        return f"ws://{f'[{host}]' if ':' in host else host}:{port}"

    def warm_up(self, calls: int = WARM_UP) -> float:
        """Answer requests in the thread that will decide, and return how long the last took [s].

        Raises:
            ValueError: the policy gives no answer, which the message says.
        """
        session, request, took = Session(self.policy), pack(example_of(self.spec)), 0.0
        for _ in range(calls):
            began = time.perf_counter()
            answer = self._turns.run(partial(session.answer, request))
            took = time.perf_counter() - began
            if isinstance(answer.data, str):
                raise ValueError(f"the policy does not answer for its example observation: {answer.data}")
        return took

    def serve_forever(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until SIGTERM or Ctrl-C, which raises KeyboardInterrupt once every client has been told.

        Args:
            ready: called when clients can connect.
        """
        asyncio.run(self.serve(ready))

    async def serve(self, ready: Callable[[], object] = lambda: None, stop: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set; see ``serve_forever``."""
        with naming_extras():
            from websockets.asyncio.server import serve

        stop = stop or asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        quiet = logging.getLogger("onestride.serving.websockets")
        quiet.setLevel(logging.CRITICAL + 1)  # a stranger's bytes are no reason for a traceback
        try:
            async with serve(  # no pings, which a client answers only while it reads
                self._converse, sock=self._socket, process_request=self._admit, compression=None, origins=[None],
                max_size=largest(self.spec) + REFUSED_IN_WORDS, max_queue=QUEUED, close_timeout=LONGEST_CLOSE,
                ping_interval=None, server_header=None, logger=quiet,
            ) as self._server:  # fmt: skip
                ready()
                try:
                    await stop.wait()
                finally:
                    self._server.close()
                    await self._end_conversations()
        finally:
            self._turns.close()

    def close(self) -> None:
        """Give the port back, where it was never served."""
        self._socket.close()
        self._turns.close()

    async def _end_conversations(self) -> None:
        """Give the clients time to hear of the end; one whose decision never ends is left."""
        if self._conversations:
            _, left = await asyncio.wait(self._conversations, timeout=LONGEST_CLOSE + LONGEST_DECISION)
            for task in left:
                task.cancel()

    # ------------------------------------------------------------ a client

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """The health check, or why a client may not come in; None where it may."""
        if request.path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get_all("Authorization")
        if self._key is not None and not (
            len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), self._key)
        ):
            said = "this policy server wants a key: Authorization: Api-Key ...\n"
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, said)
        if len(self._server.connections) >= self.max_clients:
            said = f"{self.max_clients} clients are connected already; try again later\n"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, said)
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        """Answer one client until it goes."""
        from websockets.exceptions import ConnectionClosed

        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        keep_alive(connection.transport.get_extra_info("socket"))
        session, why = Session(self.policy, usual=self._usual), "it went"
        who = "{}:{}".format(*connection.remote_address[:2])
        log.info("%s connected", who)
        try:
            await connection.send(pack(self.metadata))
            async for message in connection:
                came = time.perf_counter()
                answer = await self._turns.call(partial(session.answer, message, came))
                await connection.send(answer.data)
                if answer.broken:
                    await connection.close(1011, "the policy failed")
        except ConnectionClosed as closed:
            why = " ".join(str(closed).split())
        finally:
            last = f"; the last refusal: {session.last_refusal}" if session.refused else ""
            log.info("%s left (%s): %d answers, %d refusals%s", who, why, session.answered, session.refused, last)
