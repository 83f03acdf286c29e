"""Who makes and keeps the key that signs a device's batches: a file here, hardware elsewhere.

A provider is a class with `make`, `open` and `destroy`, and a line in
PROVIDERS; `[keys] provider` of agent.toml names it. One for a TPM or a secure
element writes into `path` whatever names the key inside (a handle, a wrapped
blob), signs there, and passes signatures through `wire.cose.esp256_signature`;
`hedge` needs a secret that only this device has (an HMAC key inside, or bytes
unsealed at start). Central takes the algorithm from the device's request.
The key of the TLS connection is not a provider's: it lies in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from agent.keys.at_rest import KeyringError, hex_key, load_private, read_secret, write_private
from agent.keys.erasure import erase_file
from wire.envelope import BatchSigner, DeviceSigner


class KeyProvider(Protocol):
    """Where sign keys are made and kept; `path` stands for one of them."""

    def make(self, path: Path) -> None:
        """Make a new key, durable when this returns; raises OSError or KeyringError."""

    def open(self, path: Path) -> BatchSigner:
        """Whoever signs with the key; raises KeyringError."""

    def destroy(self, path: Path) -> None:
        """Make the key unusable for ever, also where there is none; raises OSError."""


class Ed25519File:
    """An Ed25519 key in a file: PKCS#8, or hex digits as the centre's bundle has it."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret

    def make(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        write_private(path, Ed25519PrivateKey.generate(), self._secret)

    def open(self, path: Path) -> BatchSigner:
        content = read_secret(path)
        if self._secret is None and not content.startswith(b"-----BEGIN"):
            return DeviceSigner(hex_key(path, content.decode("ascii", "replace")))
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = load_private(path, content, self._secret)
        if not isinstance(key, Ed25519PrivateKey):
            raise _another(path, "an Ed25519 key")
        return DeviceSigner(key.private_bytes_raw())

    def destroy(self, path: Path) -> None:
        erase_file(path)


class P256File:
    """A P-256 key in a file (ESP256): what a TPM would do, without its protection."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret

    def make(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        write_private(path, ec.generate_private_key(ec.SECP256R1()), self._secret)

    def open(self, path: Path) -> BatchSigner:
        from cryptography.hazmat.primitives.asymmetric import ec

        from wire.p256 import PRIVATE_BYTES, P256Signer

        key = load_private(path, read_secret(path), self._secret)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise _another(path, "a P-256 key")
        return P256Signer(key.private_numbers().private_value.to_bytes(PRIVATE_BYTES, "big"))

    def destroy(self, path: Path) -> None:
        erase_file(path)


DEFAULT: Final = "ed25519-file"
PROVIDERS: Final[Mapping[str, Callable[[bytes | None], KeyProvider]]] = {
    DEFAULT: Ed25519File,
    "p256-file": P256File,
}
"""By the name in agent.toml; each is given the unit's secret, or None."""


def _another(path: Path, expected: str) -> KeyringError:
    return KeyringError(
        f"{path}: expected {expected}, found another; correct [keys] provider, or enrol anew"
    )
