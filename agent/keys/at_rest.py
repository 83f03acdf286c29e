"""How private keys lie on the disk: PKCS#8 in files of mode 0600, sealed if the unit has a secret.

The secret is a credential of the systemd unit; keys are sealed under it as
PKCS#8 does it (PBES2, RFC 8018), so that OpenSSL opens them too. It keeps a
reader of the disk out only as far as systemd keeps the credential from him:
docs/enrolment.md says which kind does. A file that others may read is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

KEY_BYTES: Final = 32
"""Of a sign key as the centre's bundle holds it, in hex digits."""
SECRET_BYTES: Final = (16, 1024)
"""Fewest and most of a credential: 16 are 128 bit if it is random, OpenSSL takes no more."""

_LARGEST_FILE: Final = 16_384
_ANEW: Final = "enrol anew (loadscape-agent enrol), or correct [keys] systemd"


class KeyringError(ValueError):
    """A key file or keyset cannot be used; the message says which and what to do."""


def read_secret(path: Path) -> bytes:
    """A file's content; raises KeyringError also where others may read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise KeyringError(
            f"{path}: cannot be read ({error.strerror}); copy the file there"
        ) from error
    if mode & 0o077:
        raise KeyringError(
            f"{path}: mode {mode:o} lets others read this private key; run chmod 600 {path}"
        )
    if len(content) > _LARGEST_FILE:
        raise KeyringError(f"{path}: more than {_LARGEST_FILE} bytes, that is no key; copy it anew")
    return content


def read_hex_key(path: Path) -> bytes:
    """A public key, 32 bytes written as hex; raises KeyringError."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise KeyringError(
            f"{path}: cannot be read ({error.strerror}); copy the file there"
        ) from error
    except UnicodeDecodeError as error:
        raise KeyringError(f"{path}: expected {KEY_BYTES} bytes as hex digits; {error}") from error
    return hex_key(path, text)


def hex_key(path: Path, text: str) -> bytes:
    """What the text of the file at `path` says; raises KeyringError."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError as error:
        raise KeyringError(f"{path}: expected {KEY_BYTES} bytes as hex digits; {error}") from error
    if len(key) != KEY_BYTES:
        raise KeyringError(f"{path}: expected {KEY_BYTES} bytes as hex digits, came {len(key)}")
    return key


def unit_secret(credential: str | None) -> bytes | None:
    """The unit's credential of that name, None without a name; raises KeyringError."""
    if credential is None:
        return None
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise KeyringError(
            f"[keys] systemd = {credential!r}: expected CREDENTIALS_DIRECTORY in the environment, "
            f"which only a service has; add LoadCredentialEncrypted={credential} to the unit, or "
            "run this command with it as docs/enrolment.md shows"
        )
    path = Path(folder) / credential
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise KeyringError(
            f"{path}: cannot be read ({error.strerror}); add LoadCredentialEncrypted={credential} "
            "to the unit, or correct [keys] systemd"
        ) from error
    least, most = SECRET_BYTES
    if not least <= len(secret) <= most:
        raise KeyringError(
            f"{path}: {len(secret)} bytes, expected {least} to {most}; make it as "
            "docs/enrolment.md shows"
        )
    return secret


def write_private(path: Path, key: PrivateKeyTypes, secret: bytes | None) -> None:
    """Write a new file, durably, sealed under `secret` if there is one; raises OSError."""
    from cryptography.hazmat.primitives import serialization

    sealed = serialization.BestAvailableEncryption(secret) if secret else None
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        sealed or serialization.NoEncryption(),
    )
    write_durably(path, pem)


def load_private(path: Path, content: bytes, secret: bytes | None) -> PrivateKeyTypes:
    """The key in `content`, read from `path`; raises KeyringError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(content, secret)
    except TypeError as error:
        # Sealed, and there is no secret; or the other way round.
        raise KeyringError(f"{path}: {error}; {_ANEW}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyringError(
            f"{path}: expected a private key as PEM (PKCS#8), or its secret is another; {_ANEW}"
        ) from error


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file by one of mode 0600 that outlives a power cut; raises OSError."""
    from agent.store.identity import replace_file

    replace_file(path, content, durable=True)
