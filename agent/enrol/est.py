"""Asks the centre's enrolment server for certificates: the client of EST (RFC 7030).

TLS 1.3 only. The authority's certificate is taken over a connection that
nobody vouches for and held against the token's fingerprint; every other
request goes to a server that this authority has certified under its name.
Answers are bounded, and nothing in them is believed here: `agent.enrol.issue`
checks it.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.keys.at_rest import read_secret
from agent.tls_time import ClockedContext
from wire import est

if TYPE_CHECKING:
    from cryptography import x509

    from agent.keys.folder import Generation

TIMEOUT_S = 20.0
"""Longest wait for the server to connect, and for each piece of an answer."""
_MOST_TEXT = 200


class EnrolmentFailed(Exception):
    """No certificate came; the message says from whom, why, and what to do."""


class Refused(EnrolmentFailed):
    """The server says no: to ask again changes nothing until somebody acts at the centre."""


def fetch_authority(server: str, expected: bytes) -> x509.Certificate:
    """The authority's certificate, which has the fingerprint `expected`; raises EnrolmentFailed."""
    from cryptography.hazmat.primitives.serialization import Encoding

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # What it shows is not believed: the fingerprint decides, and no secret is sent.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for certificate in _certificates(server, Est(server, context).get(est.CACERTS)):
        if est.fingerprint(certificate.public_bytes(Encoding.DER)) == expected:
            return certificate
    raise EnrolmentFailed(
        f"{server}: its authority is not the one that the token names: somebody stands between, "
        "or the token is of another centre; nothing was sent. Check the address"
    )


def server_context(authority_pem: str, now_utc_s: Callable[[], float]) -> ClockedContext:
    """For a server whose certificate the authority has signed, valid at `now_utc_s`."""
    context = ClockedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.now_utc_s = now_utc_s
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority_pem)
    return context


def device_context(
    generation: Generation, secret: bytes | None, now_utc_s: Callable[[], float]
) -> ClockedContext:
    """The same, and the device shows its certificate; raises OSError or KeyringError."""
    read_secret(generation.tls_key)
    context = server_context(generation.authority_certificate.read_text(), now_utc_s)
    # Without a password OpenSSL would ask for one at the terminal.
    context.load_cert_chain(generation.tls_certificate, generation.tls_key, password=secret or b"")
    return context


class Est:
    """One server, one connection for each request."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        """`server` is host:port; raises EnrolmentFailed if it is not."""
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise EnrolmentFailed(f"{server!r}: expected host:port of the enrolment server")
        self._server = server
        self._host, self._port = host.strip("[]"), int(port)
        self._context = context

    def companion(self) -> est.Companion:
        """What a device needs besides certificates; raises EnrolmentFailed."""
        try:
            return est.read_companion(self.get(est.COMPANION))
        except est.EstError as error:
            raise EnrolmentFailed(f"{self._server}: {error}") from error

    def enroll(self, request: bytes, basic: str) -> x509.Certificate:
        """The certificate for the request, DER, by a token; raises EnrolmentFailed."""
        return self._one(self._ask("POST", est.ENROLL, request, {"Authorization": basic}))

    def reenroll(self, request: bytes) -> x509.Certificate:
        """The certificate for the request, DER, by the one shown; raises EnrolmentFailed."""
        return self._one(self._ask("POST", est.REENROLL, request, {}))

    def get(self, path: str) -> bytes:
        """The body that lies there; raises EnrolmentFailed."""
        return self._ask("GET", path, None, {})

    def _one(self, body: bytes) -> x509.Certificate:
        certificates = _certificates(self._server, body)
        if len(certificates) != 1:
            raise EnrolmentFailed(
                f"{self._server}: {len(certificates)} certificates came, expected the device's"
            )
        return certificates[0]

    def _ask(self, method: str, path: str, der: bytes | None, headers: dict[str, str]) -> bytes:
        body = None
        if der is not None:
            body = est.to_body(der)
            headers = {**headers, "Content-Type": est.REQUEST_TYPE}
            headers["Content-Transfer-Encoding"] = "base64"
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_S, context=self._context
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read(est.LARGEST_BODY + 1)
        except ssl.SSLError as error:
            raise EnrolmentFailed(f"{self._server}: no secured connection ({error})") from error
        except (OSError, http.client.HTTPException) as error:
            raise EnrolmentFailed(
                f"{self._server}: cannot be reached ({str(error) or type(error).__name__}); check "
                "address, network and firewall"
            ) from error
        finally:
            connection.close()
        if answer.status == http.client.OK:
            return content
        said = content[:_MOST_TEXT].decode("utf-8", "replace").strip()
        failed = Refused if 400 <= answer.status < 500 else EnrolmentFailed
        raise failed(f"{self._server}: {answer.status} {answer.reason}: {said}")


def _certificates(server: str, body: bytes) -> list[x509.Certificate]:
    try:
        return est.read_certificates(body)
    except est.EstError as error:
        raise EnrolmentFailed(f"{server}: {error}") from error
