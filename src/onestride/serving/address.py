"""Where a server listens, and the key that its clients have to know."""

from __future__ import annotations

import errno
import ipaddress
import socket

#: Where openpi's clients look for a server.
PORT = 8000
#: Environment variable that holds the clients' key.
KEY = "ONESTRIDE_API_KEY"
GONE_AFTER = 40  # a client whose machine does not answer for so long is gone [s]


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that holds the address, and does not listen yet.

    Raises:
        OSError: the port is in use, or the address is none of this machine's.
    """
    if not 0 <= port <= 65_535:
        raise ValueError(f"port is {port}, expected 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(error.errno, f"there is no address '{host}' to listen on ({error.strerror})") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last server has just ended
        made.bind(address)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            said = f"port {port} of {host} is in use: stop what listens there, or name another with --port"
        else:
            said = f"cannot listen on port {port} of {host} ({error.strerror})"
        raise OSError(error.errno, said) from error
    return made


def keep_alive(connection: socket.socket) -> None:
    """Have the system end a connection whose other side is gone without a word, such as a robot without power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", GONE_AFTER // 2), ("TCP_KEEPINTVL", GONE_AFTER // 8), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(key: str) -> str:
    """Return a key without its line's end.

    Raises:
        ValueError: it is empty, or cannot stand in a header.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable() and key):
        raise ValueError("the API key is empty or has characters that no header may hold; expected printable ASCII")
    return key
