"""What a concentrator that leaves its site holds, and how it forgets it: the keys first.

Erased are private keys, certificate and keyset, the meters' passwords that lie
in files, and everything that the agent keeps in its data folder. Not erased
are agent.toml and what others put into those folders: `left_in` names it. The
centre learns nothing of it; there the device is revoked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.config import AgentConfig
from agent.keys.erasure import erase_file
from agent.keys.folder import KeyFolder
from agent.keys.providers import PROVIDERS
from agent.run import KEPT_KEYSET_FILE
from agent.status_file import STATUS_FILE
from agent.store.ballast import BALLAST_FILE
from agent.store.identity import SUFFIX_BESIDE
from agent.store.opening import DATABASE_FILE, IDENTITY_FILE, QUARANTINE

_BESIDE: Final = f"*{SUFFIX_BESIDE}"
_KEPT: Final = (
    f"{DATABASE_FILE}*",
    f"{QUARANTINE}/**/*",
    QUARANTINE,
    IDENTITY_FILE,
    KEPT_KEYSET_FILE,
    STATUS_FILE,
    BALLAST_FILE,
    _BESIDE,
)
"""What the agent keeps in its data folder, in the order in which it goes."""


def held(config: AgentConfig) -> list[Path]:
    """What there is to erase, in the order in which it goes; raises OSError."""
    folder = config.keys.folder
    keys = [*_secrets(config), *_public(config)] if folder is None else [folder]
    there = [path for path in keys if path.exists()]
    return [*there, *_meter_secrets(config), *_kept(config.data_dir)]


def erase(config: AgentConfig) -> Iterator[Path]:
    """Erase it; yields what is gone. Raises OSError; it may be called again after a cut."""
    keys = config.keys
    # The provider needs no secret to destroy a key.
    provider = PROVIDERS[keys.provider](None)
    if keys.folder is not None:
        yield from KeyFolder(keys.folder, provider).erase()
    else:
        for path in (*_secrets(config), *_public(config)):
            if erase_file(path):
                yield path
    for path in (*_meter_secrets(config), *_kept(config.data_dir)):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
            yield path
        elif erase_file(path):
            yield path


def left_in(config: AgentConfig) -> list[Path]:
    """What is still in the data folder: not the agent's."""
    return sorted(config.data_dir.iterdir()) if config.data_dir.is_dir() else []


def file_systems(config: AgentConfig) -> list[Path]:
    """One folder of each file system on which something was held."""
    keys = config.keys.folder or config.keys.sign_key_file.parent
    found: dict[int, Path] = {}
    for folder in (config.data_dir, keys):
        while not folder.exists():
            folder = folder.parent
        found.setdefault(folder.stat().st_dev, folder)
    return list(found.values())


def _secrets(config: AgentConfig) -> tuple[Path, ...]:
    return config.keys.sign_key_file, config.broker.key_file


def _public(config: AgentConfig) -> tuple[Path, ...]:
    """Of a bundle; the authority's certificate and the root's key say nothing of this device."""
    return config.broker.cert_file, config.keys.keyset_file


def _meter_secrets(config: AgentConfig) -> list[Path]:
    source = config.credentials
    files = {meter.password_file for meter in config.meters}
    if source is not None:
        files.add(source.file)
    return sorted(file for file in files if file is not None and file.exists())


def _kept(data_dir: Path) -> list[Path]:
    """Files before the folders that they lie in."""
    found: dict[Path, None] = {}
    for pattern in _KEPT:
        for path in sorted(data_dir.glob(pattern), reverse=True):
            found.setdefault(path)
    return list(found)
