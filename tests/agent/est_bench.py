"""A small enrolment server over real TLS: what central's does, as far as a device sees it."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.config import AgentConfig, load_config
from central.keys.certificates import Authority
from wire import est
from wire.enrolment import Request, RequestError, read_request
from wire.envelope import DeviceSigner
from wire.est import Companion, Token
from wire.keyset import EpochKey, Keyset, ReceiptKey, sign_keyset

NAME = "demo-t01"
DAYS = 30
_NO_CHECK_TIME = 0x200000


class Clock:
    """Shows what the test says; starts at the machine's time."""

    def __init__(self) -> None:
        self.utc_s = time.time()

    def now_utc_s(self) -> float:
        return self.utc_s


@dataclass
class EstServer:
    """Answers as the contract says; a test may spoil an answer or lose it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    port: int = 0
    authority: Authority = field(default_factory=lambda: Authority.make("demo"))
    root: DeviceSigner = field(default_factory=lambda: DeviceSigner(os.urandom(32)))
    secret: bytes = field(default_factory=lambda: os.urandom(est.SECRET_BYTES))
    answered: dict[bytes, x509.Certificate] = field(default_factory=dict)
    """By the digest of the request."""
    requests: list[Request] = field(default_factory=list)
    kids: list[bytes] = field(default_factory=list)
    by_certificate: dict[str, set[bytes]] = field(default_factory=dict)
    """Digests of the requests that came under each device certificate, by its serial number."""
    asked: list[str] = field(default_factory=list)
    spent: bool = False
    name: str = NAME
    keyset_file: Path | None = None
    """The keyset of a centre, in place of one of our own."""
    registered: Callable[[Request, x509.Certificate], None] = lambda *_: None
    """Called before an answer is given: what the centre does with a device's new keys."""
    lose: set[str] = field(default_factory=set)
    """Paths whose answer is lost on the way."""
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    spoil: dict[str, bytes] = field(default_factory=dict)
    """What is answered instead, by path."""
    days: int = DAYS
    name_in_certificate: str = NAME
    broker: tuple[str, int] = ("broker.example", 8883)
    keyset_tenant: str = "demo"
    keyset_version: int = 1

    @property
    def server(self) -> str:
        return f"localhost:{self.port}"

    @property
    def token(self) -> Token:
        der = x509.load_pem_x509_certificate(self.authority.certificate_pem)
        return Token(
            self.name,
            self.server,
            self.secret,
            est.fingerprint(der.public_bytes(Encoding.DER)),
            est.fingerprint(self.root.public),
        )

    def keyset(self) -> bytes:
        if self.keyset_file is not None:
            return self.keyset_file.read_bytes()
        epoch = EpochKey(b"epoch--1", 1, os.urandom(32), 0, 4_000_000_000)
        receipt = ReceiptKey(self.root.kid, self.root.public)
        keyset = Keyset(self.keyset_version, self.keyset_tenant, (epoch,), (receipt,), ())
        return sign_keyset(keyset, self.root)

    def answer(self, method: str, path: str, headers: Any, body: bytes, peer: Any) -> bytes | int:
        self.asked.append(path)
        match method, path:
            case "GET", est.CACERTS:
                return est.certificates_body(
                    [x509.load_pem_x509_certificate(self.authority.certificate_pem)]
                )
            case "GET", est.COMPANION:
                return Companion(self.root.public, self.keyset(), *self.broker).encode()
            case "POST", est.ENROLL:
                if headers["Authorization"] != self.token.basic:
                    return 401
                return self._issue(body, first=True)
            case "POST", est.REENROLL:
                if not peer or not self._let_in(peer):
                    return 401
                answer = self._issue(body, first=False)
                digest = self.requests_digest(body)
                self.by_certificate.setdefault(peer["serialNumber"], set()).add(digest)
                return answer
        return 404

    @staticmethod
    def requests_digest(body: bytes) -> bytes:
        """Tells requests apart."""
        return read_request(est.from_body(body)).digest

    def _let_in(self, peer: dict[str, Any]) -> bool:
        now = self.clock.now_utc_s()
        begins = ssl.cert_time_to_seconds(peer["notBefore"])
        return begins <= now <= ssl.cert_time_to_seconds(peer["notAfter"])

    def _issue(self, body: bytes, *, first: bool) -> bytes | int:
        try:
            request = read_request(est.from_body(body))
        except (RequestError, est.EstError):
            return 400
        if request.digest not in self.answered:
            if first and self.spent:
                return 401
            self.spent = True
            now = datetime.fromtimestamp(self.clock.now_utc_s(), UTC)
            self.answered[request.digest] = self.authority.certify_client(
                self.name_in_certificate, request.tls_public, self.days, now
            )
            self.requests.append(request)
            self.kids.append(request.sign_key.kid)
            self.registered(request, self.answered[request.digest])
        return est.certificates_body([self.answered[request.digest]])


def _tls_of(server: EstServer, folder: Path) -> ssl.SSLContext:
    """TLS 1.3 with a certificate for the server's names; a client may show one."""
    issued = server.authority.issue_server(server.names, 365)
    paths = folder / "server.crt", folder / "server.key", folder / "server-ca.crt"
    pems = issued.certificate, issued.key, server.authority.certificate_pem
    for path, pem in zip(paths, pems, strict=True):
        path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(paths[0], paths[1])
    context.load_verify_locations(paths[2])
    context.verify_mode = ssl.CERT_OPTIONAL
    # By the clock of the test, not the machine's: `_let_in`.
    context.verify_flags |= _NO_CHECK_TIME
    return context


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[EstServer]:
    """An enrolment server on a free port."""
    server = EstServer(folder, **how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._do(b"")

        def do_POST(self) -> None:
            self._do(self.rfile.read(int(self.headers["Content-Length"])))

        def _do(self, body: bytes) -> None:
            peer = self.connection.getpeercert()  # type: ignore[attr-defined]
            answer = server.answer(self.command, self.path, self.headers, body, peer)
            if self.path in server.lose:
                self.close_connection = True
                return
            answer = server.spoil.get(self.path, answer)
            status, text = server.refuse.get(self.path, (200, ""))
            if isinstance(answer, int):
                status, text = answer, "not known"
            content = text.encode() if status != 200 or isinstance(answer, int) else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
    httpd.socket = _tls_of(server, folder).wrap_socket(
        httpd.socket, server_side=True, do_handshake_on_connect=False
    )
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def config_of(folder: Path, more: str = "") -> AgentConfig:
    """An agent's configuration whose keys are to be enrolled."""
    path = folder / "agent.toml"
    path.write_text(f"""\
[agent]
tenant = "demo"
device = "t01"
data_dir = "data"
clock_trust = "system"

[keys]
folder = "keys"
{more}

[[line]]
name = "modbus-1"
port = "/dev/null"
protocol = "modbus"
baud = 19200

[[meter]]
id = "m1"
line = "modbus-1"
model = "eastron_sdm630"
unit = 1
""")
    return load_config(path)
