"""What device and centre say to each other when a device enrols, beside the request itself.

A subset of EST (RFC 7030): `cacerts`, `simpleenroll` with a one-time token in
HTTP Basic (user: the common name, password: the token's secret in hex digits),
`simplereenroll` over mutual TLS. Beside it, on a path of our own, lies what a
device needs besides certificates. The token that the installer carries names
the centre and holds fingerprints, so that nothing is trusted on first use:
the authority's certificate is held against it before anything secret is sent,
the root's key before it is believed. Bodies are bounded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wire import cbor

if TYPE_CHECKING:
    from cryptography import x509

PREFIX: Final = "/.well-known/est"
CACERTS: Final = f"{PREFIX}/cacerts"
ENROLL: Final = f"{PREFIX}/simpleenroll"
REENROLL: Final = f"{PREFIX}/simplereenroll"
COMPANION: Final = f"{PREFIX}/loadscape"
"""GET: a `Companion`, JSON."""

REQUEST_TYPE: Final = "application/pkcs10"
CERTIFICATES_TYPE: Final = "application/pkcs7-mime; smime-type=certs-only"
COMPANION_TYPE: Final = "application/json"
LARGEST_BODY: Final = 65_536
"""Bytes of any body, either way."""
SECRET_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16

_TOKEN: Final = "loadscape1."
_VERSION: Final = 1
_LONGEST_TOKEN: Final = 1024
_LONGEST_HEADER: Final = 512
_DAMAGED: Final = "the token is damaged; copy it anew, whole"


class EstError(ValueError):
    """A token or a body that is not as the contract says; nothing of it is believed."""


@dataclass(frozen=True, slots=True)
class Token:
    """What lets one device enrol once; printed by the centre, typed in at the device."""

    common_name: str
    server: str
    """`host:port` of the enrolment server."""
    secret: bytes
    """16 random bytes; the centre keeps a hash only."""
    authority: bytes
    """`fingerprint` of the authority's certificate, DER."""
    root: bytes
    """`fingerprint` of the root's public key, 32 bytes."""

    def __str__(self) -> str:
        """One printable word; it holds the secret."""
        fields: list[cbor.Value] = [
            _VERSION,
            self.common_name,
            self.server,
            self.secret,
            self.authority,
            self.root,
        ]
        return _TOKEN + base64.urlsafe_b64encode(cbor.encode(fields)).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"Token({self.common_name!r}, {self.server!r}, secret not shown)"

    @property
    def basic(self) -> str:
        """The value of the header `Authorization` (RFC 7617)."""
        pair = f"{self.common_name}:{self.secret.hex()}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


def read_token(text: str) -> Token:
    """The token that was printed; raises EstError, which shows nothing of it."""
    text = text.strip()
    if not text.startswith(_TOKEN) or len(text) > _LONGEST_TOKEN:
        raise EstError(f"expected a token that begins with {_TOKEN}; copy it anew")
    coded = text.removeprefix(_TOKEN)
    try:
        padded = coded.encode("ascii") + b"=" * (-len(coded) % 4)
        fields = cbor.decode(base64.b64decode(padded, b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, cbor.CborError):
        # Without its cause, which could quote the secret.
        raise EstError(_DAMAGED) from None
    match fields:
        case [
            int(version),
            str(name),
            str(server),
            bytes(secret),
            bytes(authority),
            bytes(root),
        ]:
            pass
        case _:
            raise EstError(_DAMAGED)
    if version != _VERSION:
        raise EstError(f"a token of version {version}, expected {_VERSION}; update the agent")
    lengths = [len(part) for part in (secret, authority, root)]
    if lengths != [SECRET_BYTES, FINGERPRINT_BYTES, FINGERPRINT_BYTES]:
        raise EstError(_DAMAGED)
    return Token(name, server, secret, authority, root)


def read_basic(header: str) -> tuple[str, bytes]:
    """Common name and secret of such a header; raises EstError, which shows nothing of it."""
    try:
        scheme, _, coded = header.partition(" ")
        if scheme.lower() != "basic" or len(header) > _LONGEST_HEADER:
            raise ValueError
        name, _, digits = base64.b64decode(coded, validate=True).decode("ascii").partition(":")
        secret = bytes.fromhex(digits)
        if not name or len(secret) != SECRET_BYTES:
            raise ValueError
        return name, secret
    except ValueError:
        # Without its cause, which could quote the secret.
        raise EstError("expected the token: common name and secret in HTTP Basic") from None


def fingerprint(data: bytes) -> bytes:
    """First 16 bytes of SHA-256."""
    return hashlib.sha256(data).digest()[:FINGERPRINT_BYTES]


@dataclass(frozen=True, slots=True)
class Companion:
    """What a device needs besides certificates."""

    root_public: bytes
    """Ed25519, 32 bytes; held against the token's fingerprint at the first time."""
    keyset: bytes
    """The newest, signed by the root."""
    broker_host: str
    broker_port: int

    def encode(self) -> bytes:
        """As it goes over the wire: JSON."""
        return json.dumps(
            {
                "root": self.root_public.hex(),
                "keyset": base64.b64encode(self.keyset).decode(),
                "broker": {"host": self.broker_host, "port": self.broker_port},
            }
        ).encode()


def read_companion(body: bytes) -> Companion:
    """Taken apart, not verified; raises EstError."""
    _bounded(body)
    try:
        fields = json.loads(body)
        root, keyset = bytes.fromhex(fields["root"]), base64.b64decode(fields["keyset"])
        host, port = fields["broker"]["host"], fields["broker"]["port"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise EstError(f"expected root, keyset and broker as JSON, came {error!r}") from error
    if not isinstance(host, str) or not host or type(port) is not int or not 0 < port < 65_536:
        raise EstError(f"expected the broker's host and port, came {host!r} and {port!r}")
    if len(root) != 32:
        raise EstError(f"expected the root's public key of 32 bytes, came {len(root)}")
    return Companion(root, keyset, host, port)


def to_body(der: bytes) -> bytes:
    """DER as EST carries it: base64 in lines (RFC 2045)."""
    return base64.encodebytes(der)


def from_body(body: bytes) -> bytes:
    """The DER in a body; white space does not count. Raises EstError."""
    _bounded(body)
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise EstError(f"expected base64 ({error})") from error


def certificates_body(certificates: list[x509.Certificate]) -> bytes:
    """Certificates only, PKCS#7, as EST answers with them (RFC 7030, 4.1.3)."""
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    return to_body(pkcs7.serialize_certificates(certificates, Encoding.DER))


def read_certificates(body: bytes) -> list[x509.Certificate]:
    """The certificates of such an answer, not verified; raises EstError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs7

    try:
        return pkcs7.load_der_pkcs7_certificates(from_body(body))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        if isinstance(error, EstError):
            raise
        raise EstError(f"expected certificates as PKCS#7 ({error})") from error


def _bounded(body: bytes) -> None:
    if len(body) > LARGEST_BODY:
        raise EstError(f"a body of {len(body)} bytes, expected at most {LARGEST_BODY}")
