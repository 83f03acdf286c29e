"""The folder of an enrolled device's keys: one generation in use, at most one being made.

    current -> a1b2…           the generation in use
    next -> c3d4…              one whose keys and request are on the disk, without certificate yet
    a1b2…/sign.key, tls.key    the private halves
          request.p10          what was asked for, to ask for the very same again after a cut
          asked-by             by whose leave: of which token, or of the keys in use
          tls.crt, ca.crt, root.pub, keyset.cose, centre.json

A generation is made whole, and synced, before a link names it; links are
replaced by a rename. So a power cut leaves the old generation or the new one
in use, never a mixture, and what no link names is erased the next time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.keys.at_rest import write_durably, write_private
from agent.keys.erasure import erase_file
from agent.keys.providers import KeyProvider
from wire.enrolment import make_request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

CURRENT: Final = "current"
NEXT: Final = "next"
_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Generation:
    """The files of one pair of keys; the names are those of the centre's bundle."""

    folder: Path

    @property
    def sign_key(self) -> Path:
        return self.folder / "sign.key"

    @property
    def tls_key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def request(self) -> Path:
        return self.folder / "request.p10"

    @property
    def asked_by(self) -> Path:
        return self.folder / "asked-by"

    @property
    def tls_certificate(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def authority_certificate(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def root_public(self) -> Path:
        return self.folder / "root.pub"

    @property
    def keyset(self) -> Path:
        return self.folder / "keyset.cose"

    @property
    def centre(self) -> Path:
        return self.folder / "centre.json"


class KeyFolder:
    """Makes generations and puts them in use. One process at a time changes it."""

    def __init__(self, path: Path, provider: KeyProvider, secret: bytes | None = None) -> None:
        self._path = path
        self._provider = provider
        self._secret = secret

    @property
    def current(self) -> Generation | None:
        """The generation in use, None before the first."""
        return self._named(CURRENT)

    @property
    def next(self) -> Generation | None:
        """The one being made: its keys and its request are on the disk."""
        return self._named(NEXT)

    def begin(self, common_name: str, asked_by: str) -> Generation:
        """The generation being made by the same leave, with its request, or a new one.

        Raises OSError, or KeyringError if the provider cannot make a key.
        """
        begun = self.next
        if begun is not None and begun.asked_by.read_text() == asked_by:
            return begun
        self.abandon()
        made = Generation(self._path / secrets.token_hex(8))
        made.folder.mkdir(_MODE, parents=True)
        self._provider.make(made.sign_key)
        tls_key = _new_tls_key()
        write_private(made.tls_key, tls_key, self._secret)
        signer = self._provider.open(made.sign_key)
        write_durably(made.asked_by, asked_by.encode())
        write_durably(made.request, make_request(common_name, tls_key, signer, signer.public))
        self._link(NEXT, made)
        return made

    def abandon(self) -> None:
        """Give up the generation being made; its keys are erased. Raises OSError."""
        erase_file(self._path / NEXT)
        self.tidy()

    def put_in_use(self, made: Generation) -> None:
        """Make the finished generation `made` the current one and erase the one before."""
        _give_to_owner(made.folder, self._path.parent)
        _sync(made.folder)
        os.replace(self._path / NEXT, self._path / CURRENT)
        _sync(self._path)
        self.tidy()

    def tidy(self) -> None:
        """Erase generations that no link names; raises OSError."""
        if not self._path.exists():
            return
        named = {generation.folder.name for generation in (self.current, self.next) if generation}
        for folder in list(self._path.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and folder.name not in named:
                self._erase(folder)

    def erase(self) -> Iterator[Path]:
        """Erase everything, the keys first; yields what is gone. Raises OSError."""
        if not self._path.exists():
            return
        for name in (CURRENT, NEXT):
            if erase_file(self._path / name):
                yield self._path / name
        for folder in sorted(self._path.iterdir()):
            if folder.is_dir() and not folder.is_symlink():
                self._erase(folder)
                yield folder
        if not any(self._path.iterdir()):
            self._path.rmdir()

    def _erase(self, folder: Path) -> None:
        generation = Generation(folder)
        self._provider.destroy(generation.sign_key)
        erase_file(generation.tls_key)
        for file in folder.iterdir():
            erase_file(file)
        folder.rmdir()

    def _named(self, link: str) -> Generation | None:
        try:
            return Generation(self._path / os.readlink(self._path / link))
        except FileNotFoundError:
            return None

    def _link(self, name: str, generation: Generation) -> None:
        for folder in (generation.folder, self._path, self._path.parent):
            _sync(folder)
        os.symlink(generation.folder.name, self._path / name)
        _sync(self._path)


def _new_tls_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _give_to_owner(folder: Path, like: Path) -> None:
    """What root makes belongs to whom the folder around belongs to: the agent's user."""
    if os.geteuid():
        return
    owner = like.stat()
    for path in (folder.parent, folder, *folder.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
