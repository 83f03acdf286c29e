"""A real Mosquitto with TLS 1.3 and client certificates, started by a test and ended by it."""

from __future__ import annotations

import datetime
import socket
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.config import BrokerConfig

# pytest's folders are closed to the user that Mosquitto changes to when root starts it.
_CONF = """\
user root
listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.3
allow_anonymous false
acl_file {folder}/acl
persistence false
"""
_ACL = """\
pattern write loadscape/1/up/+/%u
pattern write loadscape/1/state/%u
pattern read loadscape/1/down/%u

user central
topic readwrite loadscape/1/#
"""


class Broker:
    """`start` and `stop` as often as wanted; the port stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        authority = issue(folder, "ca", "test authority", None)
        for name in ("broker", "central", "demo-t07"):
            issue(folder, name, "127.0.0.1" if name == "broker" else name, authority)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (folder / "acl").write_text(_ACL)
        (folder / "acl").chmod(0o644)
        (folder / "mosquitto.conf").write_text(_CONF.format(folder=folder, port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["mosquitto", "-c", str(self.folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until_s
                time.sleep(0.02)  # nothing announces that a port is open

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def config(self, name: str) -> BrokerConfig:
        return BrokerConfig(
            "127.0.0.1",
            self.port,
            self.folder / "ca.crt",
            self.folder / f"{name}.crt",
            self.folder / f"{name}.key",
        )


Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


Span = tuple[datetime.datetime, datetime.datetime]


def issue(
    folder: Path, file: str, name: str, authority: Authority | None, span: Span | None = None
) -> Authority:
    """Write `file`.crt and `file`.key; valid from yesterday to tomorrow if no `span` is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    span = span or (now - day, now + day)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority[0].subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0])
        .not_valid_after(span[1])
        .add_extension(x509.BasicConstraints(authority is None, None), critical=True)
    )
    if name == "127.0.0.1":
        import ipaddress

        address = x509.IPAddress(ipaddress.ip_address(name))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(authority[1] if authority else key, hashes.SHA256())
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{file}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / f"{file}.crt").chmod(0o644)
    (folder / f"{file}.key").chmod(0o600)
    folder.chmod(0o755)
    return certificate, key
