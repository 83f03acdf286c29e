"""TCP ports for the broker and the page."""

from __future__ import annotations

import socket


class PortTaken(RuntimeError):
    """Another program listens on the port that was asked for."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on the loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wanted_port(port: int, option: str) -> int:
    """`port` if it is free; raises PortTaken naming the `option` that chooses another one."""
    if not is_free(port):
        raise PortTaken(
            f"port {port} on 127.0.0.1 is taken by another program; stop that program, or choose "
            f"another port with {option} (0 takes any free one)"
        )
    return port
