"""A device's certificate, first and next: asked for, checked, stored, and only then in use.

The keys and the request lie on the disk before anything is sent
(`agent.keys.folder`), and the server answers the same request with the same
certificate: so a cut at any moment is made good by doing it again. Another
request is never made before this one was answered: at the centre it would look
like a copy of the device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import AgentConfig
from agent.enrol.enrolled import (
    Centre,
    Validity,
    key_folder_of,
    read_centre,
    span_of,
    validity_of,
)
from agent.enrol.est import (
    EnrolmentFailed,
    Est,
    device_context,
    fetch_authority,
    server_context,
)
from agent.keys.at_rest import hex_key, load_private, read_secret, unit_secret, write_durably
from wire.est import Companion, Token, fingerprint

if TYPE_CHECKING:
    from cryptography import x509

    from agent.keys.folder import Generation, KeyFolder

_ANEW = "enrol anew with a token (loadscape-agent enrol --anew)"
_RENEWAL = "certificate"
"""By whose leave a renewal asks; a first certificate is asked for by a token."""


def enrol(
    config: AgentConfig, token: Token, server: str, now_utc_s: Callable[[], float]
) -> Validity:
    """The first certificate by a token from `server`; in use when this returns.

    Raises EnrolmentFailed, KeyringError or OSError: then the keys before, if
    there were any, are in use as ever.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    if token.common_name != config.common_name:
        raise EnrolmentFailed(
            f"the token is for {token.common_name}, this is {config.common_name}; correct tenant "
            "and device in agent.toml, or get the token of this device"
        )
    folder = key_folder_of(config.keys)
    leave = f"token {fingerprint(token.secret).hex()}"
    if (stored := _use_stored(folder, leave)) is not None:
        return stored
    authority = fetch_authority(server, token.authority)
    pem = authority.public_bytes(Encoding.PEM)
    client = Est(server, server_context(pem.decode(), now_utc_s))
    companion = client.companion()
    if fingerprint(companion.root_public) != token.root:
        raise EnrolmentFailed(
            f"{server}: the root's key is not the one that the token names; ask the centre"
        )
    made = folder.begin(config.common_name, leave)
    certificate = client.enroll(made.request.read_bytes(), token.basic)
    _store(config, made, certificate, authority, companion, server, now_utc_s())
    folder.put_in_use(made)
    return span_of(certificate)


def renew(config: AgentConfig, now_utc_s: Callable[[], float]) -> Validity:
    """The next certificate, for new keys; in use when this returns.

    Raises as `enrol` does.
    """
    from cryptography import x509 as library

    folder, secret = key_folder_of(config.keys), unit_secret(config.keys.systemd)
    current = folder.current
    if current is None:
        raise EnrolmentFailed(f"{config.keys.folder}: nothing is enrolled there; {_ANEW}")
    if (stored := _use_stored(folder, _RENEWAL)) is not None:
        return stored
    server = read_centre(current).server
    authority = library.load_pem_x509_certificate(current.authority_certificate.read_bytes())
    client = Est(server, device_context(current, secret, now_utc_s))
    companion = client.companion()
    root = current.root_public
    if companion.root_public != hex_key(root, root.read_text()):
        raise EnrolmentFailed(f"{server}: the root's key has changed; {_ANEW}")
    made = folder.begin(config.common_name, _RENEWAL)
    certificate = client.reenroll(made.request.read_bytes())
    _store(config, made, certificate, authority, companion, server, now_utc_s())
    folder.put_in_use(made)
    return span_of(certificate)


def _use_stored(folder: KeyFolder, asked_by: str) -> Validity | None:
    """What a cut left ready, checked and whole: its last file is there."""
    made = folder.next
    if made is None or not made.centre.exists() or made.asked_by.read_text() != asked_by:
        return None
    folder.put_in_use(made)
    return validity_of(made.tls_certificate)


def _store(
    config: AgentConfig,
    made: Generation,
    certificate: x509.Certificate,
    authority: x509.Certificate,
    companion: Companion,
    server: str,
    now_utc_s: float,
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    _check_keyset(config.tenant, companion, server)
    _check(config, made.tls_key, certificate, authority, now_utc_s)
    centre = Centre(server, companion.broker_host, companion.broker_port)
    for path, content in (
        (made.tls_certificate, certificate.public_bytes(Encoding.PEM)),
        (made.authority_certificate, authority.public_bytes(Encoding.PEM)),
        (made.root_public, companion.root_public.hex().encode()),
        (made.keyset, companion.keyset),
        (made.centre, centre.encode()),
    ):
        write_durably(path, content)


def _check_keyset(tenant: str, companion: Companion, server: str) -> None:
    from wire.keyset import verify_keyset

    try:
        # Whether it is newer than what the agent has, the keyring sees.
        verify_keyset(companion.keyset, companion.root_public, tenant=tenant, lowest_version=0)
    except ValueError as error:
        raise EnrolmentFailed(f"{server}: its keyset: {error}") from error


def _check(
    config: AgentConfig,
    tls_key: Path,
    certificate: x509.Certificate,
    authority: x509.Certificate,
    now_utc_s: float,
) -> None:
    """That the certificate is the authority's, for this name and this key, and not over."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.x509.oid import NameOID

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise EnrolmentFailed("the certificate is not signed by the centre's authority") from error
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [config.common_name]:
        raise EnrolmentFailed(
            f"the certificate is for {certificate.subject.rfc4514_string()}, "
            f"expected {config.common_name}"
        )
    secret = unit_secret(config.keys.systemd)
    private = load_private(tls_key, read_secret(tls_key), secret)
    if certificate.public_key() != private.public_key():
        raise EnrolmentFailed("the certificate is for another key than the device asked with")
    ends = certificate.not_valid_after_utc
    if ends.timestamp() <= now_utc_s:
        raise EnrolmentFailed(
            f"the certificate is over since {ends:%Y-%m-%d %H:%M} UTC; set this clock right"
        )
