"""The device's signing key and the newest keyset that the tenant's root has signed.

A keyset with a lower version than one seen before is refused, whoever sends
it. Loads `cryptography` on first need only.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from agent.store.identity import replace_file

if TYPE_CHECKING:
    from wire.envelope import DeviceSigner
    from wire.keyset import EpochKey, Keyset

_KEY_BYTES = 32


class KeyringError(ValueError):
    """A key file or keyset cannot be used; the message says which and what to do."""


class NoEpochKey(KeyringError):
    """No epoch key is valid now; rows wait until a new keyset comes."""


class Keyring:
    """Signs, chooses the epoch key, keeps the newest keyset. Used by writer and network thread."""

    def __init__(
        self, tenant: str, sign_key_file: Path, root_public_file: Path, kept_file: Path
    ) -> None:
        self._tenant = tenant
        self._sign_key_file = sign_key_file
        self._root_public = read_hex_key(root_public_file, secret=False)
        self._seed = read_hex_key(sign_key_file, secret=True)
        self._kept_file = kept_file
        self._signer: DeviceSigner | None = None
        self._keyset: Keyset | None = None
        self._lock = threading.Lock()

    @property
    def signer(self) -> DeviceSigner:
        """The device's signing key."""
        with self._lock:
            if self._signer is None:
                from wire.envelope import DeviceSigner

                self._signer = DeviceSigner(self._seed)
            return self._signer

    @property
    def keyset(self) -> Keyset:
        """The newest keyset; raises KeyringError before `load`."""
        if self._keyset is None:
            raise KeyringError("no keyset is loaded; give keyset_file or wait for central's")
        return self._keyset

    @property
    def version(self) -> int:
        """Version of the newest keyset, 0 before the first."""
        return self._keyset.version if self._keyset is not None else 0

    def load(self, keyset_file: Path) -> None:
        """Take the newer of the kept keyset and `keyset_file`; raises KeyringError if none fits."""
        problems = []
        for path in (self._kept_file, keyset_file):
            try:
                self._take(path.read_bytes())
            except FileNotFoundError:
                problems.append(f"{path}: does not exist")
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {error}")
        if self._keyset is None:
            raise KeyringError("no usable keyset: " + "; ".join(problems))

    def accept(self, data: bytes) -> bool:
        """Take a keyset from the network; True if it is newer. Raises ValueError if it is bad."""
        if not self._take(data):
            return False
        replace_file(self._kept_file, data, durable=True)
        return True

    def epoch_key(self, now_utc_s: float) -> EpochKey:
        """The newest epoch key that is valid now; raises NoEpochKey."""
        from wire.keyset import KeysetError

        try:
            return self.keyset.epoch_key(now_utc_s)
        except KeysetError as error:
            raise NoEpochKey(str(error)) from error

    def _take(self, data: bytes) -> bool:
        from wire.keyset import verify_keyset

        keyset = verify_keyset(
            data, self._root_public, tenant=self._tenant, lowest_version=self.version
        )
        newer = self._keyset is None or keyset.version > self.version
        if newer:
            self._keyset = keyset
        return newer


def read_hex_key(path: Path, *, secret: bool) -> bytes:
    """32 bytes written as hex; a secret must not be readable by others. Raises KeyringError."""
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise KeyringError(
            f"{path}: cannot be read ({error.strerror}); copy the file there"
        ) from error
    except ValueError as error:
        raise KeyringError(f"{path}: expected {_KEY_BYTES} bytes as hex digits; {error}") from error
    if len(key) != _KEY_BYTES:
        raise KeyringError(f"{path}: expected {_KEY_BYTES} bytes as hex digits, came {len(key)}")
    if secret and mode & 0o077:
        raise KeyringError(
            f"{path}: mode {mode:o} lets others read the signing key; run chmod 600 {path}"
        )
    return key
