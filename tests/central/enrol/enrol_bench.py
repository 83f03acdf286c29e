"""A tenant's keys, the enrolment server over real TLS, and the agent's own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agent.enrol.est import Est, fetch_authority, server_context
from central.enrol.ledger import EnrolmentLedger
from central.enrol.registrar import Registrar
from central.enrol.server import EnrolmentServer, server_certificate
from central.enrol.server import server_context as tls_of
from central.keys.authority import init_authority
from central.keys.place import EnrolledDevice, KeyPlace, read_devices
from central.metrics import MetricSet
from wire.enrolment import make_request
from wire.envelope import DeviceSigner
from wire.est import Token

DAY_S = 86_400


@dataclass
class Clock:
    utc_s: float = field(default_factory=time.time)

    def now_utc_s(self) -> float:
        return self.utc_s


@dataclass
class Keys:
    """What a device makes for one request."""

    name: str
    sign: DeviceSigner
    tls: ec.EllipticCurvePrivateKey
    request: bytes

    @classmethod
    def make(cls, name: str = "demo-t01", sign: DeviceSigner | None = None) -> Keys:
        import os

        sign = sign or DeviceSigner(os.urandom(32))
        tls = ec.generate_private_key(ec.SECP256R1())
        return cls(name, sign, tls, make_request(name, tls, sign, sign.public))


@dataclass
class Centre:
    """The office with its enrolment server."""

    place: KeyPlace
    clock: Clock
    ledger: EnrolmentLedger
    registrar: Registrar
    server: EnrolmentServer
    metrics: MetricSet

    @property
    def address(self) -> str:
        return f"localhost:{self.server.server_address[1]}"

    def token(self, device: str = "t01", hours: int = 24) -> Token:
        return self.registrar.make_token(device, self.address, hours)

    def device(self, name: str = "t01") -> EnrolledDevice:
        return read_devices(self.place)[name]

    def client(self, shown: tuple[Keys, x509.Certificate] | None = None) -> Est:
        """The agent's client, with a certificate where one is shown."""
        pem = self.place.authority_certificate.read_text()
        context = server_context(pem, time.time)
        if shown is not None:
            keys, certificate = shown
            folder = self.place.directory / "client"
            folder.mkdir(exist_ok=True)
            (folder / "crt").write_bytes(certificate.public_bytes(Encoding.PEM))
            (folder / "key").write_bytes(
                keys.tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
            context.load_cert_chain(folder / "crt", folder / "key")
        return Est(self.address, context)

    def enrolled(self, name: str = "t01") -> tuple[Keys, x509.Certificate]:
        """A device that has enrolled."""
        keys = Keys.make(f"demo-{name}")
        return keys, self.client().enroll(keys.request, self.token(name).basic)

    def renewed(
        self, shown: tuple[Keys, x509.Certificate], sign: DeviceSigner | None = None
    ) -> tuple[Keys, x509.Certificate]:
        keys = Keys.make(shown[0].name, sign)
        return keys, self.client(shown).reenroll(keys.request)


@contextmanager
def centre_at(folder: Path) -> Iterator[Centre]:
    place = init_authority(folder, "demo", broker_hosts=["127.0.0.1"], now_utc_s=time.time())
    clock, metrics = Clock(), MetricSet()
    ledger = EnrolmentLedger(place.enrol_ledger)
    registrar = Registrar(place, ledger, clock.now_utc_s)
    files = server_certificate(place, ["localhost", "127.0.0.1"], clock.utc_s)
    server = EnrolmentServer(
        ("127.0.0.1", 0),
        place,
        registrar,
        ("broker.example", 8883),
        tls_of(place, files),
        metrics,
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Centre(place, clock, ledger, registrar, server, metrics)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        ledger.close()


__all__ = ["DAY_S", "Centre", "Clock", "Keys", "centre_at", "fetch_authority"]
