"""A machine that thinks it is 1970 still connects, and still refuses what is not valid."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_bench import Authority, issue

from agent.clock_trust import AgentClock
from agent.config import BrokerConfig
from agent.publish import tls_context

DAY_S = 86_400


class Server:
    """Takes TLS connections with a certificate valid from tomorrow until the day after."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        now = datetime.datetime.now(datetime.UTC)
        span = (now + datetime.timedelta(days=1), now + datetime.timedelta(days=2))
        authority: Authority = issue(folder, "ca", "test authority", None, span)
        issue(folder, "broker", "127.0.0.1", authority, span)
        issue(folder, "agent", "demo-t07", authority, span)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "broker.crt", folder / "broker.key")
        listening = socket.create_server(("127.0.0.1", 0))
        self.socket = context.wrap_socket(listening, server_side=True)
        port = listening.getsockname()[1] if listening.fileno() >= 0 else 0
        self.port = port or self.socket.getsockname()[1]
        self.config = BrokerConfig(
            "127.0.0.1", self.port, folder / "ca.crt", folder / "agent.crt", folder / "agent.key"
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self.socket.accept()[0].close()
            except ssl.SSLError:
                continue
            except OSError:
                return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    yield made
    made.socket.close()


def shake_hands(server: Server, now_utc_s: float) -> None:
    context = tls_context(server.config, lambda: now_utc_s)
    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False) as s,
    ):
        s.do_handshake()


def test_a_certificate_that_is_valid_by_the_agents_clock_is_taken(server: Server) -> None:
    shake_hands(server, time.time() + 1.5 * DAY_S)


@pytest.mark.parametrize("days", [0.0, 0.5, 3.0])
def test_one_that_is_not_valid_is_refused_by_whichever_clock_is_ahead(
    server: Server, days: float
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="valid"):
        shake_hands(server, time.time() + days * DAY_S)


def test_name_and_authority_are_checked_as_ever(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    stranger = BrokerConfig(
        "127.0.0.1",
        other.port,
        server.config.ca_file,
        server.config.cert_file,
        server.config.key_file,
    )
    other.config = stranger
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(other, time.time() + 1.5 * DAY_S)
    other.socket.close()


def test_the_clock_of_a_machine_without_battery_is_at_the_floor_for_tls(server: Server) -> None:
    floor_utc_s = time.time() + 1.2 * DAY_S
    clock = AgentClock(
        floor_utc_s=floor_utc_s, sources={}, tell=lambda *_: None, system_utc_s=lambda: 0.0
    )
    assert clock.tls_utc_s() == pytest.approx(floor_utc_s, abs=5)
    shake_hands(server, clock.tls_utc_s())
