"""A websocket to a policy server, in the thread that asks: no other thread is between a robot and its answer.

The protocol is the websockets library's, without its input and output; every wait here ends at a deadline.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from onestride.errors import naming_extras

with naming_extras():
    from websockets.client import ClientProtocol
    from websockets.exceptions import InvalidStatus, InvalidURI
    from websockets.frames import Frame, Opcode
    from websockets.protocol import State
    from websockets.uri import parse_uri

#: Largest message that is read [bytes].
LARGEST = 64 << 20
READ = 1 << 16  # at a time [bytes]


class RefusedError(ConnectionError):
    """Raised where a server does not let a client in; the message is its words."""


class Connection:
    """A connection that has been opened.

    Args:
        url: such as "ws://127.0.0.1:8000", or wss:// for TLS.
        headers: of the request that opens it.
        timeout: how long that may take [s].

    Raises:
        ValueError: it is no such address.
        TimeoutError: the server did not answer in time.
        RefusedError: the server does not let this client in.
        OSError: it cannot be reached.
    """

    def __init__(self, url: str, headers: dict[str, str], timeout: float) -> None:
        try:
            address = parse_uri(url)
        except InvalidURI as error:
            raise ValueError(f"'{url}' is no address of a policy server, such as ws://127.0.0.1:8000") from error
        deadline = time.monotonic() + timeout
        self._socket = socket.create_connection((address.host, address.port), timeout)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=address.host)
            self._protocol = ClientProtocol(address, max_size=LARGEST)
            self._parts: list[bytes] = []  # of a message whose end has not come
            self._is_text = False
            self._messages: list[bytes | str] = []
            request = self._protocol.connect()
            request.headers.update(headers)
            self._protocol.send_request(request)
            self._write(deadline)
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                self._read(deadline)
            if (refused := self._protocol.handshake_exc) is not None:
                raise RefusedError(_refusal(refused)) from refused
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: bytes, deadline: float) -> None:
        """Send a binary message by ``deadline``, a time of ``time.monotonic()`` [s].

        Raises:
            TimeoutError: the server takes nothing more.
            OSError: the connection is lost.
        """
        if self._protocol.state is not State.OPEN:
            raise self._lost()
        self._protocol.send_binary(message)
        self._write(deadline)

    def receive(self, deadline: float) -> bytes | str:
        """Return the next message, which must be whole by ``deadline``.

        Raises:
            TimeoutError: there is none.
            OSError: the connection is lost, or the server closed it.
        """
        while not self._messages:
            self._read(deadline)
        return self._messages.pop(0)

    def close(self) -> None:
        """Say goodbye and leave, without waiting for an answer."""
        with suppress(OSError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._write(time.monotonic() + 0.1)
        self._socket.close()

    # ------------------------------------------------------------ bytes

    def _read(self, deadline: float) -> None:
        """Take what the server sends next into messages; a ping is answered."""
        if self._protocol.state not in (State.CONNECTING, State.OPEN):
            raise self._lost()
        self._socket.settimeout(_left(deadline))
        data = self._socket.recv(READ)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._write(deadline)

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._messages.append(whole.decode(errors="replace") if self._is_text else whole)

    def _write(self, deadline: float) -> None:
        for data in self._protocol.data_to_send():
            self._socket.settimeout(_left(deadline))
            if data:
                self._socket.sendall(data)
            else:  # how the protocol says that nothing follows
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    def _lost(self) -> ConnectionError:
        said = self._protocol.close_rcvd
        return ConnectionError(
            "it went without a word" if said is None else f"it closed with {said.code} {said.reason}"
        )


def _left(deadline: float) -> float:
    """The time that is left [s]."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left


def _refusal(error: Exception) -> str:
    """Why a server did not open the connection."""
    if isinstance(error, InvalidStatus):
        said = bytes(error.response.body or b"")[:200].decode(errors="replace").strip()
        return f"it refused with HTTP {error.response.status_code}: {said}"
    return f"it is no policy server ({error})"
