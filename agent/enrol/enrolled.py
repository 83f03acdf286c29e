"""What an enrolled device holds beside its keys: where its centre is, and until when it is let in.

Read from the folder of keys; of this a device with a bundle of the centre has
the certificate alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import AgentConfig, BrokerConfig, KeysConfig
from agent.keys.at_rest import KeyringError, unit_secret
from agent.keys.folder import CURRENT, Generation, KeyFolder
from agent.keys.providers import PROVIDERS, KeyProvider

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Centre:
    """Where an enrolled device renews, and where its broker is."""

    server: str
    """`host:port` of the enrolment server."""
    broker_host: str
    broker_port: int

    def encode(self) -> bytes:
        """As it lies in the folder of keys."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, UTC s."""

    not_before_utc_s: float
    not_after_utc_s: float


def provider_of(keys: KeysConfig) -> KeyProvider:
    """Who keeps the sign key; raises KeyringError if the unit's secret is missing."""
    return PROVIDERS[keys.provider](unit_secret(keys.systemd))


def require_keys(keys: KeysConfig) -> None:
    """Raises KeyringError if nothing has been enrolled into the folder of keys."""
    if keys.folder is not None and not keys.sign_key_file.parent.exists():
        raise KeyringError(f"{keys.folder}: nothing is enrolled there; run loadscape-agent enrol")


def key_folder_of(keys: KeysConfig) -> KeyFolder:
    """The folder that `enrol` fills; raises KeyringError where a bundle is used."""
    if keys.folder is None:
        raise KeyringError(
            "[keys] folder: is missing, the keys are a bundle of the centre; to enrol, write "
            'folder = "keys" in place of the three files'
        )
    return KeyFolder(keys.folder, provider_of(keys), unit_secret(keys.systemd))


def broker_of(config: AgentConfig) -> BrokerConfig:
    """The broker of the configuration, or else of the enrolment; raises KeyringError."""
    if config.broker.host or config.keys.folder is None:
        return config.broker
    centre = read_centre(Generation(config.keys.folder / CURRENT))
    return replace(config.broker, host=centre.broker_host, port=centre.broker_port)


def read_centre(generation: Generation) -> Centre:
    """What the enrolment left there; raises KeyringError."""
    try:
        fields = json.loads(generation.centre.read_text())
        return Centre(str(fields["server"]), str(fields["broker_host"]), int(fields["broker_port"]))
    except OSError as error:
        raise KeyringError(
            f"{generation.centre}: cannot be read ({error.strerror}); run loadscape-agent enrol"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise KeyringError(
            f"{generation.centre}: expected server, broker_host and broker_port, came {error!r}; "
            "enrol anew"
        ) from error


def validity_of(certificate_file: Path) -> Validity:
    """From when to when the certificate in that file holds; raises KeyringError."""
    from cryptography import x509 as library

    try:
        certificate = library.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyringError(
            f"{certificate_file}: expected a certificate, PEM ({error}); enrol anew"
        ) from error
    return span_of(certificate)


def span_of(certificate: x509.Certificate) -> Validity:
    """From when to when it holds."""
    return Validity(
        certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    )
