"""The device's signing key and the newest keyset that the tenant's root has signed.

A keyset with a lower version than one seen before is refused, whoever sends
it. Loads `cryptography` on first need only.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from agent.keys.at_rest import KeyringError as KeyringError
from agent.keys.at_rest import read_hex_key, read_secret
from agent.store.identity import replace_file

if TYPE_CHECKING:
    from agent.keys.providers import KeyProvider
    from wire.envelope import BatchSigner
    from wire.keyset import EpochKey, Keyset


class NoEpochKey(KeyringError):
    """No epoch key is valid now; rows wait until a new keyset comes."""


class Keyring:
    """Signs, chooses the epoch key, keeps the newest keyset. Used by writer and network thread."""

    def __init__(
        self,
        tenant: str,
        sign_key_file: Path,
        root_public_file: Path,
        kept_file: Path,
        provider: KeyProvider | None = None,
    ) -> None:
        """`provider` knows what lies in `sign_key_file`; an Ed25519 key if none is given."""
        self._tenant = tenant
        self._sign_key_file = sign_key_file
        self._root_public = read_hex_key(root_public_file)
        read_secret(sign_key_file)
        self._kept_file = kept_file
        self._provider = provider
        self._signer: BatchSigner | None = None
        self._keyset: Keyset | None = None
        self._lock = threading.Lock()

    @property
    def signer(self) -> BatchSigner:
        """Whoever signs with the device's key; raises KeyringError."""
        with self._lock:
            if self._signer is None:
                self._signer = self._opened()
            return self._signer

    def take_new_key(self) -> None:
        """Sign with the key that lies there now; raises KeyringError, and the old one signs on."""
        with self._lock:
            self._signer = self._opened()

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

    def _opened(self) -> BatchSigner:
        from agent.keys.providers import Ed25519File

        return (self._provider or Ed25519File()).open(self._sign_key_file)

    def _take(self, data: bytes) -> bool:
        from wire.keyset import verify_keyset

        keyset = verify_keyset(
            data, self._root_public, tenant=self._tenant, lowest_version=self.version
        )
        newer = self._keyset is None or keyset.version > self.version
        if newer:
            self._keyset = keyset
        return newer
