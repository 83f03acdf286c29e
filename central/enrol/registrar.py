"""Decides who gets a certificate, and writes down whose keys it is for.

A token is good for one device and one request; that request may come again for
an hour, because its answer may have been lost. From then on the device's own
certificate is its leave: the old key counts until the new one is used. A second
request under a certificate that has been followed already is not the device's,
or the first was not: nothing of the device is believed until somebody looks.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from central.durable import PUBLIC, write_file
from central.enrol.ledger import EnrolmentLedger, Given, TokenRow, secret_hash
from central.keys.authority import read_authority, read_certificate, revoke_certificates
from central.keys.device import DEVICE_CERTIFICATE_DAYS
from central.keys.place import (
    DeviceKey,
    EnrolledDevice,
    KeyPlace,
    KeysError,
    devices_locked,
    read_devices,
    read_hex,
    read_tenant,
    write_devices_json,
)
from wire.enrolment import Request, RequestError, read_request
from wire.est import SECRET_BYTES, EstError, Token, fingerprint, from_body
from wire.topics import common_name

log = logging.getLogger("central.enrol")

AGAIN_S: Final = 3600
"""So long a spent token's request is answered with the same certificate."""
_TOKEN: Final = "token"


class Refused(Exception):
    """No certificate; `status` is what HTTP says of it, the text goes to the device."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Registrar:
    """One tenant's; any thread may call, one after the other."""

    def __init__(
        self, place: KeyPlace, ledger: EnrolmentLedger, now_utc_s: Callable[[], float]
    ) -> None:
        """Raises KeysError if the authority's key does not lie here."""
        self._place = place
        self._ledger = ledger
        self._now_utc_s = now_utc_s
        self._tenant = read_tenant(place)
        self._authority = read_authority(place)

    # --- tokens

    def make_token(self, device: str, server: str, hours: int) -> Token:
        """What lets `device` enrol once; its secret is kept nowhere. Raises TopicError."""
        name = common_name(self._tenant, device)
        authority = read_certificate(self._place.authority_certificate)
        token = Token(
            name,
            server,
            secrets.token_bytes(SECRET_BYTES),
            fingerprint(authority.public_bytes(Encoding.DER)),
            fingerprint(read_hex(self._place.root_public, 32)),
        )
        now = int(self._now_utc_s())
        with self._ledger.transaction():
            row = TokenRow(device, secret_hash(token.secret), now, now + hours * 3600)
            self._ledger.put_token(row)
        return token

    # --- certificates

    def enroll(self, name: str, secret: bytes, body: bytes) -> x509.Certificate:
        """The certificate for a first request; raises Refused."""
        request = _read(body)
        device = self._device_of(name)
        now = int(self._now_utc_s())
        with devices_locked(self._place):
            with self._ledger.transaction():
                token = self._good_token(device, name, secret, request, now)
                given = self._give(device, request, _TOKEN, now)
                spent = replace(token, spent_by=request.digest)
                self._ledger.put_token(replace(spent, spent_utc_s=token.spent_utc_s or now))
            # The spent token is on the disk; a cut here is made good by the same request.
            self._register(given, request, anew=True)
        return x509.load_der_x509_certificate(given.certificate)

    def reenroll(self, serial: int, name: str, body: bytes) -> x509.Certificate:
        """The next certificate for whoever shows the one with `serial` and `name`; or Refused."""
        request = _read(body)
        device = self._device_of(name)
        if request.common_name != name:
            raise Refused(
                HTTPStatus.FORBIDDEN, f"{name} asks for a certificate of {request.common_name}"
            )
        now = int(self._now_utc_s())
        with devices_locked(self._place):
            known = self._believed(device, serial)
            with self._ledger.transaction():
                given = None
                if not self._is_followed(known, serial, request):
                    given = self._give(device, request, str(serial), now)
            if given is None:
                raise self._quarantined(known, now)
            self._register(given, request, anew=False)
        return x509.load_der_x509_certificate(given.certificate)

    # --- devices

    def release(self, device: str) -> None:
        """Somebody has looked: the device is believed again. Raises KeysError."""
        with devices_locked(self._place):
            devices = read_devices(self._place)
            if device not in devices:
                raise KeysError(f"{self._place.devices}: no device {device!r}; see keys list")
            devices[device] = replace(devices[device], quarantined="")
            self._write(devices)
        log.info("%s is out of quarantine", device)

    def revoke_certificates_of(self, device: str) -> None:
        """Put all that the device was ever given on the revocation list; raises KeysError."""
        with devices_locked(self._place):
            known = read_devices(self._place).get(device)
            self._revoke(known, self._ledger.given_to(device))

    def _quarantined(self, known: EnrolledDevice, now_utc_s: int) -> Refused:
        why = (
            f"{datetime.fromtimestamp(now_utc_s, UTC):%Y-%m-%d %H:%M} UTC: a second renewal under "
            "one certificate; two have its keys"
        )
        devices = read_devices(self._place)
        devices[known.device] = replace(known, quarantined=why)
        self._write(devices)
        log.error(
            "alarm (clone): %s is in quarantine since %s; look which is the device, then revoke "
            "it and enrol it anew, or loadscape-central enrol release %s",
            known.cn,
            why,
            known.device,
        )
        return Refused(HTTPStatus.FORBIDDEN, "two devices have these keys; both are in quarantine")

    def _revoke(self, known: EnrolledDevice | None, certificates: Sequence[Given]) -> None:
        serials = set(known.serials if known else ())
        for given in certificates:
            serials.add(x509.load_der_x509_certificate(given.certificate).serial_number)
        revoke_certificates(self._place, sorted(serials))

    # --- who may

    def _device_of(self, name: str) -> str:
        prefix = f"{self._tenant}-"
        if not name.startswith(prefix):
            raise Refused(HTTPStatus.UNAUTHORIZED, f"{name!r}: no name of this tenant")
        return name.removeprefix(prefix)

    def _good_token(
        self, device: str, name: str, secret: bytes, request: Request, now_utc_s: int
    ) -> TokenRow:
        token = self._ledger.token(device)
        if token is None or not hmac.compare_digest(token.hash, secret_hash(secret)):
            raise Refused(HTTPStatus.UNAUTHORIZED, "the token is not known; make a new one")
        if request.common_name != name:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"the token is for {name}, the request for {request.common_name}",
            )
        if token.spent_by is None:
            if now_utc_s > token.ends_utc_s:
                raise Refused(HTTPStatus.UNAUTHORIZED, "the token is over; make a new one")
            return token
        since_s = now_utc_s - (token.spent_utc_s or 0)
        if token.spent_by != request.digest or since_s > AGAIN_S:
            raise Refused(HTTPStatus.UNAUTHORIZED, "the token is spent; make a new one")
        return token

    def _believed(self, device: str, serial: int) -> EnrolledDevice:
        known = read_devices(self._place).get(device)
        if known is None or serial not in known.serials:
            raise Refused(HTTPStatus.UNAUTHORIZED, "the certificate is not one in use")
        if not known.active:
            raise Refused(HTTPStatus.FORBIDDEN, "the device is revoked")
        if known.quarantined:
            raise Refused(HTTPStatus.FORBIDDEN, f"in quarantine: {known.quarantined}")
        return known

    def _is_followed(self, known: EnrolledDevice, serial: int, request: Request) -> bool:
        """Whether another request was answered under this certificate, or it is not the newest."""
        if self._ledger.followers(str(serial)) - {request.digest}:
            return True
        return serial != known.serials[-1] and self._ledger.given(request.digest) is None

    # --- giving and writing down

    def _give(self, device: str, request: Request, leave: str, now_utc_s: int) -> Given:
        """The certificate that the request was answered with before, or a new one."""
        before = self._ledger.given(request.digest)
        if before is not None:
            return before
        tls = _key_hash(request.tls_public)
        holders = self._ledger.holders(request.sign_key.kid, tls)
        holders |= {
            known.device
            for known in read_devices(self._place).values()
            for key in known.under_each_key()
            if key.kid == request.sign_key.kid
        }
        if holders:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "one of the keys has been registered before; each request needs new ones",
            )
        now = datetime.fromtimestamp(now_utc_s, UTC)
        certificate = self._authority.certify_client(
            request.common_name, request.tls_public, DEVICE_CERTIFICATE_DAYS, now
        )
        der = certificate.public_bytes(Encoding.DER)
        given = Given(request.digest, device, request.sign_key.kid, tls, leave, now_utc_s, der)
        self._ledger.put_given(given)
        return given

    def _register(self, given: Given, request: Request, *, anew: bool) -> None:
        """Let the collector know the key; done already where the request came again."""
        certificate = x509.load_der_x509_certificate(given.certificate)
        key = DeviceKey(
            request.sign_key.kid,
            request.sign_key.public,
            request.sign_key.alg,
            certificate.serial_number,
            given.request,
            certificate.public_bytes(Encoding.PEM).decode(),
        )
        devices = read_devices(self._place)
        known = devices.get(given.device)
        if known is not None and key.kid in {one.kid for one in known.under_each_key()}:
            return
        if known is not None and anew and (not known.active or known.quarantined):
            # A new token says that somebody has looked: nothing of before counts any more.
            others = [one for one in self._ledger.given_to(given.device) if one != given]
            self._revoke(known, others)
            known = None
        devices[given.device] = _registered(known, given, request, key)
        self._write(devices)
        ends = certificate.not_valid_after_utc
        log.info("%s has a certificate until %s", request.common_name, ends)

    def _write(self, devices: dict[str, EnrolledDevice]) -> None:
        write_file(self._place.devices, write_devices_json(self._tenant, devices), PUBLIC)


def _registered(
    known: EnrolledDevice | None, given: Given, request: Request, key: DeviceKey
) -> EnrolledDevice:
    if known is None:
        return EnrolledDevice(
            given.device,
            request.common_name,
            key.kid,
            key.public,
            key.alg,
            True,
            key.certificate_serial,
        )
    for shown in known.renewed:
        if str(shown.certificate_serial) == given.leave:
            known = known.with_key(shown)
    return replace(known, renewed=(*known.renewed, key))


def _read(body: bytes) -> Request:
    try:
        return read_request(from_body(body))
    except (EstError, RequestError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error


def _key_hash(public: ec.EllipticCurvePublicKey) -> bytes:
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()
