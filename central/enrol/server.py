"""The enrolment server: EST (RFC 7030) over TLS 1.3, bounded in size, time and number.

What it answers is the registrar's decision; here are only HTTP, certificates and
limits. A client certificate is asked for, not demanded: who enrols has none yet.
"""

from __future__ import annotations

import logging
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from central.durable import PUBLIC, write_file
from central.enrol.registrar import Refused, Registrar
from central.keys.authority import read_authority, read_certificate
from central.keys.certificates import server_names
from central.keys.place import KeyPlace, KeysError, read_hex
from central.metrics import MetricSet
from wire import est

log = logging.getLogger("central.enrol")

ANSWERS: Final = "loadscape_enrol_answers_total"
CERTIFICATE_DAYS: Final = 365
_RENEW_DAYS: Final = 60
_CONNECTIONS: Final = 64
_REQUEST_S: Final = 10.0
_RETRY_S: Final = "60"
_PATHS: Final = (est.CACERTS, est.COMPANION, est.ENROLL, est.REENROLL)
_NOT_BOUNDED: Final = "expected Content-Length, and at most 65536"


def server_certificate(
    place: KeyPlace, names: Sequence[str], now_utc_s: float
) -> tuple[Path, Path]:
    """Certificate and key of the server; new ones where none fit, or they end within 60 days."""
    certificate, key = place.enrol_certificate, place.enrol_key
    if certificate.exists() and key.exists():
        present = read_certificate(certificate)
        lasts_s = present.not_valid_after_utc.timestamp() - now_utc_s
        if lasts_s > _RENEW_DAYS * 86_400 and server_names(present) == list(names):
            return certificate, key
    issued = read_authority(place).issue_server(list(names), CERTIFICATE_DAYS)
    certificate.parent.mkdir(exist_ok=True, mode=0o700)
    write_file(key, issued.key)
    write_file(certificate, issued.certificate, PUBLIC)
    return certificate, key


def server_context(place: KeyPlace, files: tuple[Path, Path]) -> ssl.SSLContext:
    """TLS 1.3 only; raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(*files)
    context.load_verify_locations(place.authority_certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class EnrolmentServer(ThreadingHTTPServer):
    """Serves until `shutdown`; a connection more than it may have is closed at once."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        place: KeyPlace,
        registrar: Registrar,
        broker: tuple[str, int],
        context: ssl.SSLContext,
        metrics: MetricSet,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.place = place
        self.registrar = registrar
        self.broker = broker
        self.metrics = metrics
        self._context = context
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        statuses = (200, 400, 401, 403, 404, 411, 413, 503)
        metrics.counter(
            ANSWERS, "Answers of the enrolment server.", *({"status": str(s)} for s in statuses)
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there is room for one more."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake happens here: a client that hangs in it holds nobody up."""
        request.settimeout(_REQUEST_S)
        try:
            secured = self._context.wrap_socket(request, server_side=True)
        except OSError as error:
            log.info("%s: no secured connection (%s)", client_address[0], error)
            self.shutdown_request(request)
        else:
            super().process_request_thread(secured, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; all else is."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.info("connection from %s ended early (%s)", client_address[0], error)
        else:
            log.exception("a request of %s could not be answered", client_address[0])


class _Handler(BaseHTTPRequestHandler):
    server: EnrolmentServer
    protocol_version = "HTTP/1.1"
    timeout = _REQUEST_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """What anyone may have."""
        place = self.server.place
        content: dict[str, tuple[str, Callable[[], bytes]]] = {
            est.CACERTS: (
                est.CERTIFICATES_TYPE,
                lambda: est.certificates_body([read_certificate(place.authority_certificate)]),
            ),
            est.COMPANION: (est.COMPANION_TYPE, self._companion),
        }
        found = content.get(self.path)
        if found is None:
            self._say(HTTPStatus.NOT_FOUND, f"expected one of {', '.join(_PATHS)}")
            return
        self._answer(HTTPStatus.OK, found[0], found[1]())

    def do_POST(self) -> None:
        """What wants a token or a certificate."""
        try:
            body = self._body()
            certificate = self._certificate(body)
        except Refused as refused:
            log.warning("%s from %s: %s", self.path, self.client_address[0], refused)
            self._say(refused.status, str(refused))
            return
        self._answer(HTTPStatus.OK, est.CERTIFICATES_TYPE, est.certificates_body([certificate]))

    def log_message(self, *_: object) -> None:
        """What matters is logged in words of its own."""

    def _certificate(self, body: bytes) -> x509.Certificate:
        registrar = self.server.registrar
        if self.path == est.ENROLL:
            name, secret = self._basic()
            decide = partial(registrar.enroll, name, secret, body)
        elif self.path == est.REENROLL:
            serial, name = self._peer()
            decide = partial(registrar.reenroll, serial, name, body)
        else:
            raise Refused(HTTPStatus.NOT_FOUND, f"expected one of {', '.join(_PATHS)}")
        try:
            return decide()
        except (KeysError, sqlite3.Error, OSError) as error:
            log.error("no certificate could be given: %s", error)
            why = "the centre cannot answer now; its log says why"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, why) from error

    def _companion(self) -> bytes:
        place = self.server.place
        root = read_hex(place.root_public, 32)
        return est.Companion(root, place.keyset.read_bytes(), *self.server.broker).encode()

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, _NOT_BOUNDED)
        if int(length) > est.LARGEST_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _NOT_BOUNDED)
        return self.rfile.read(int(length))

    def _basic(self) -> tuple[str, bytes]:
        try:
            return est.read_basic(self.headers.get("Authorization", ""))
        except est.EstError as error:
            raise Refused(HTTPStatus.UNAUTHORIZED, str(error)) from None

    def _peer(self) -> tuple[int, str]:
        """Serial number and common name of the certificate that was shown."""
        shown = self.connection.getpeercert(binary_form=True)
        if not shown:
            raise Refused(HTTPStatus.UNAUTHORIZED, "show the device's certificate")
        certificate = x509.load_der_x509_certificate(shown)
        names = [str(name.value) for name in certificate.subject]
        return certificate.serial_number, names[0] if len(names) == 1 else ""

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", text.encode())

    def _answer(self, status: HTTPStatus, content_type: str, content: bytes) -> None:
        self.server.metrics.count(ANSWERS, status=str(status.value))
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="enrolment"')
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", _RETRY_S)
        if content_type == est.CERTIFICATES_TYPE:
            self.send_header("Content-Transfer-Encoding", "base64")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
