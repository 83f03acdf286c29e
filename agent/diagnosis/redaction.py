"""Keeps names and secrets out of what leaves the machine.

A name (tenant, meter, host, …) is replaced by a pseudonym that stays the same
from bundle to bundle; which stands for which is kept in a file of this
machine only. A secret is blanked. What merely looks like an address or a key
is replaced too. Not promised: that a name which nobody told us of, such as a
street in a comment, is found; so comments are never taken.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

BLANK: Final = "(redacted)"
_WORD_FROM: Final = 6
"""Names of so many characters are found inside of words too; shorter ones would match by chance."""
_SHORTEST: Final = 2
"""A single character tells nothing, and would be replaced all over the place."""
_PEM_FROM: Final = 16
_PUBLIC_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)"
    r"(?![\w:])"
)
_HARDWARE_ADDRESS: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:])")
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]{16,}(?![0-9A-Za-z])")
_HOME: Final = re.compile(r"(?<=/home/)[^/\s'\":;,]+")


class NamesDamaged(ValueError):
    """The file of pseudonyms cannot be read; the message says what to do."""


class SecretFound(Exception):
    """A secret was about to leave the machine; nothing was written."""


class Pseudonyms:
    """Names and what stands for them: the same name has the same pseudonym for good."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = dict(names or {})
        """Pseudonym -> name."""
        self._pseudonyms = {name: pseudonym for pseudonym, name in self._names.items()}
        self._next: dict[str, int] = {}

    @classmethod
    def load(cls, path: Path) -> Pseudonyms:
        """Those of the file, none if there is no file; raises NamesDamaged, OSError."""
        try:
            names = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise NamesDamaged(
                f"{path}: expected pseudonyms as JSON, got: {error}; move the file away"
            ) from error
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise NamesDamaged(
                f"{path}: expected a JSON object of pseudonyms and names; move the file away"
            )
        return cls(names)

    def save(self, path: Path) -> None:
        """Write the file for this user's eyes only; raises OSError."""
        text = json.dumps(self._names, indent=1, ensure_ascii=False) + "\n"
        beside = path.with_name(f"{path.name}.{os.getpid()}.new")
        write_private(beside, text.encode())
        os.replace(beside, path)

    def of(self, kind: str, name: str) -> str:
        """The pseudonym of `name`, such as `meter-3`."""
        if name not in self._pseudonyms:
            number = self._next.get(kind, 1)
            while f"{kind}-{number}" in self._names:
                number += 1
            self._next[kind] = number + 1
            self._names[f"{kind}-{number}"] = name
            self._pseudonyms[name] = f"{kind}-{number}"
        return self._pseudonyms[name]


def write_private(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600; raises OSError (FileExistsError if it is there)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


class Redactor:
    """Replaces what it was told of, and what looks like an address or a key."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._replacements: dict[str, str] = {}
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def name(self, kind: str, name: str) -> None:
        """From now on `name` is shown as a pseudonym of its kind."""
        if len(name) >= _SHORTEST and name not in _PUBLIC_HOSTS:
            self.replace(name, self._pseudonyms.of(kind, name))

    def replace(self, text: str, by: str) -> None:
        """From now on `text` is shown as `by`."""
        if text:
            self._replacements.setdefault(text, by)
            self._pattern = None

    def secret(self, texts: Iterable[str]) -> None:
        """From now on these are blanked, and `refuse_secrets` looks for them."""
        for text in texts:
            if text:
                self._secrets.add(text)
                self._replacements[text] = BLANK
                self._pattern = None

    def text(self, text: str) -> str:
        """`text` without names, secrets, addresses, and long hexadecimal numbers."""
        text = self.named(text)
        text = _HOME.sub(lambda found: self._pseudonyms.of("user", found[0]), text)
        text = _HARDWARE_ADDRESS.sub(lambda found: self._pseudonyms.of("address", found[0]), text)
        text = _ADDRESS.sub(self._address, text)
        return _HEX.sub(lambda found: self._pseudonyms.of("id", found[0]), text)

    def named(self, text: str) -> str:
        """`text` without the names and secrets that are known."""
        if not self._replacements:
            return text
        if self._pattern is None:
            longest_first = sorted(self._replacements, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(self._whole, longest_first)))
        return self._pattern.sub(lambda found: self._replacements[found[0]], text)

    def value(self, value: Any) -> Any:
        """A JSON value, redacted throughout: texts, keys, and numbers that are a secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and str(value) in self._secrets:
            return BLANK
        return value

    def refuse_secrets(self, where: str, content: str) -> None:
        """The last gate before anything is written; raises SecretFound."""
        for secret in self._secrets:
            if re.search(self._whole(secret), content):
                raise SecretFound(
                    f"{where}: expected no secret, found one of this agent's keys or passwords; "
                    "nothing was written, please report this"
                )

    @staticmethod
    def _whole(name: str) -> str:
        if len(name) >= _WORD_FROM:
            return re.escape(name)
        return rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])"

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified:
            return found[0]
        return self._pseudonyms.of("address", found[0])


def secret_forms(content: bytes) -> Iterable[str]:
    """How the content of a key or password file could show up in a text."""
    import base64

    text = content.decode("utf-8", "replace").strip()
    if text.startswith("-----BEGIN"):
        # The last line of a PEM may be two characters; those would match by chance.
        yield from (
            line for line in text.splitlines() if line[:1] != "-" and len(line) >= _PEM_FROM
        )
        return
    yield from (line.strip() for line in text.splitlines())
    raw = content.strip()
    with suppress(ValueError):
        raw = bytes.fromhex(text)
    for form in (raw.hex(), raw.hex(" ")):
        yield form
        yield form.upper()
    yield repr(raw)[2:-1]
    yield base64.b64encode(raw).decode("ascii")
    yield base64.urlsafe_b64encode(raw).decode("ascii")
