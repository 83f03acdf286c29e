"""The metered link bills what the kernel says went over it, headers of every segment included."""

from __future__ import annotations

import socket
from contextlib import closing

from hil.bench.metered_link import HEADER_BYTES, MSS, MeteredLink
from hil.site.ports import free_port

SENT, ANSWERED = bytes(10_000), bytes(3_000)
TIMESTAMP_BYTES = 12


def exchange(link_port: int, server: socket.socket) -> None:
    with socket.create_connection(("127.0.0.1", link_port)) as client:
        client.sendall(SENT)
        peer, _ = server.accept()
        with peer:
            received = b""
            while len(received) < len(SENT):
                received += peer.recv(65_536)
            peer.sendall(ANSWERED)
            answered = b""
            while len(answered) < len(ANSWERED):
                answered += client.recv(65_536)
    assert (received, answered) == (SENT, ANSWERED)


def test_payload_both_ways_and_each_segment_are_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = MeteredLink(port := free_port(), server.getsockname()[1])
        with closing(link):
            exchange(port, server)
            first = link.billed_when_quiet()
            payload = len(SENT) + len(ANSWERED)
            segments = (first - payload) / HEADER_BYTES
            full = MSS - TIMESTAMP_BYTES
            # Opening and closing take seven; every second segment may be acknowledged alone.
            least = -(-len(SENT) // full) + -(-len(ANSWERED) // full)
            assert least + 5 <= segments <= 2 * least + 12
            exchange(port, server)
            assert link.billed_when_quiet() >= first + payload + least * HEADER_BYTES
