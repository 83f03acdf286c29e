"""X.509 for the transport: one P-256 authority, and end certificates for broker and clients.

These certificates protect the connection only; what a batch says is protected
by the device's sign key and the epoch key. TLS stays on real time, so
validity counts from the system's clock.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes
    serial_number: int


class Authority:
    """The tenant's certificate authority."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def make(cls, tenant: str) -> Authority:
        """A new authority that may sign end certificates only."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Loadscape {tenant} authority")
        certificate = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS, datetime.now(UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, key_pem: bytes, certificate_pem: bytes) -> Authority:
        """From PEM; raises ValueError if either is not what it should be."""
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an elliptic-curve key")
        return cls(key, x509.load_pem_x509_certificate(certificate_pem))

    @property
    def key_pem(self) -> bytes:
        """The private key; stays offline."""
        return _key_pem(self._key)

    @property
    def certificate_pem(self) -> bytes:
        """What broker, collector and devices trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, hosts: Sequence[str], days: int) -> Issued:
        """A broker's certificate for names and addresses `hosts`; the first is its name."""
        return self._issue(hosts[0], "server", days, [_general_name(host) for host in hosts])

    def issue_client(self, common_name: str, days: int) -> Issued:
        """A device's or collector's certificate; `common_name` is its username at the broker."""
        return self._issue(common_name, "client", days, [])

    def certify_client(
        self, common_name: str, public: ec.EllipticCurvePublicKey, days: int, now: datetime
    ) -> x509.Certificate:
        """A certificate, valid from `now` on, for a key whose private half the client keeps."""
        return self._certify(common_name, public, "client", days, [], now)

    def revocation_list(self, serial_numbers: Sequence[int]) -> bytes:
        """The list of revoked certificates, PEM, valid as long as the authority.

        A list that ran out would lock every device out of the broker, so it
        is replaced on revocation and never expires before the authority.
        """
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for number in serial_numbers:
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        common_name: str,
        role: Literal["server", "client"],
        days: int,
        alternatives: list[x509.GeneralName],
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certify(
            common_name, key.public_key(), role, days, alternatives, datetime.now(UTC)
        )
        return Issued(
            _key_pem(key),
            certificate.public_bytes(serialization.Encoding.PEM),
            certificate.serial_number,
        )

    def _certify(
        self,
        common_name: str,
        public: ec.EllipticCurvePublicKey,
        role: Literal["server", "client"],
        days: int,
        alternatives: list[x509.GeneralName],
        now: datetime,
    ) -> x509.Certificate:
        use = (
            ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = (
            _builder(_name(common_name), self._certificate.subject, public, days, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def server_names(certificate: x509.Certificate) -> list[str]:
    """Names and addresses that a server's certificate is for, the first its own name."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def revoked_serials(revocation_list_pem: bytes) -> list[int]:
    """Serial numbers on a revocation list; raises ValueError if it is none."""
    return [entry.serial_number for entry in x509.load_pem_x509_crl(revocation_list_pem)]


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
