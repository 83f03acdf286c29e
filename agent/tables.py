"""One table of `agent.toml`, key by key, with errors that name file, line, key and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from agent.places import Places

MOST_RATIO = 100_000
"""No instrument transformer has more."""


SECRET_KEYS = (
    "password",
    "password_hex",
    "encryption_key",
    "authentication_key",
    "guek",
    "gak",
    "ek",
    "ak",
    "key",
)
"""What a secret might be called where none may stand."""

_RATIO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?: */ *([0-9]{1,9}(?:\.[0-9]{1,9})?))?\Z")


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and what to write instead."""


def error_at(
    places: Places, table: str, index: int, key: str | None, what: str, remedy: str
) -> ConfigError:
    """What to raise about a key, or about its table: where, what is wrong, what to do."""
    return ConfigError(f"{places.name(table, index, key)}: {what}; {remedy}")


class Table:
    """One TOML table: takes keys out one by one and refuses what is left over.

    Every method raises ConfigError. Relative paths mean: beside the file.
    """

    def __init__(self, places: Places, name: str, index: int, values: Any) -> None:
        self._places = places
        self._name = name
        self._index = index
        if not isinstance(values, Mapping):
            raise self.error(None, "expected a table", f"write [[{name}]]")
        self._values = values
        self._taken: set[str] = set()

    def error(self, key: str | None, what: str, remedy: str) -> ConfigError:
        """What to raise about one key, or about the table itself."""
        return error_at(self._places, self._name, self._index, key, what, remedy)

    def has(self, key: str) -> bool:
        """Whether the key is written there."""
        return key in self._values

    def text(self, key: str) -> str:
        value = self._value(key, str, "text in quotes")
        if not value:
            raise self.error(key, "is empty", "write a value")
        return str(value)

    def path(self, key: str) -> Path:
        return self._places.path.parent / self.text(key)

    def optional_path(self, key: str) -> Path | None:
        self._taken.add(key)
        return self.path(key) if key in self._values else None

    def number(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        if default is not None and key not in self._values:
            self._taken.add(key)
            return default
        value = self._value(key, int, "a whole number")
        if isinstance(value, bool) or not lowest <= value <= highest:
            raise self.error(
                key,
                f"expected a whole number from {lowest} to {highest}, came {value!r}",
                "correct it",
            )
        return int(value)

    def optional_number(self, key: str, lowest: int, highest: int) -> int | None:
        self._taken.add(key)
        return self.number(key, lowest, highest) if key in self._values else None

    def choice(self, key: str, choices: tuple[Any, ...], default: Any) -> Any:
        value = self._values.get(key, default)
        self._taken.add(key)
        if value not in choices or isinstance(value, bool):
            raise self.error(
                key,
                f"expected one of {', '.join(map(repr, choices))}, came {value!r}",
                "choose one of them",
            )
        return value

    def flag(self, key: str, default: bool) -> bool:
        self._taken.add(key)
        return bool(self._value(key, bool, "true or false")) if key in self._values else default

    def ratio(self, key: str) -> Fraction:
        """A transformer's ratio, a number or "primary/secondary"; 1 where the key is not there."""
        self._taken.add(key)
        value = self._values.get(key, 1)
        form = 'expected a positive number or a text such as "250/5"'
        parts = _RATIO.match("" if isinstance(value, bool) else str(value))
        if parts is None or Fraction(parts[2] or 1) == 0:
            raise self.error(key, f"{form}, came {value!r}", "correct it")
        ratio = Fraction(parts[1]) / Fraction(parts[2] or 1)
        if not 0 < ratio <= MOST_RATIO:
            raise self.error(key, f"{form}, at most {MOST_RATIO}, came {value!r}", "correct it")
        return ratio

    def matching(self, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = self.text(key)
        if not pattern.match(value):
            raise self.error(key, f"expected {form}, came {value!r}", "correct it")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, at least one; a wrong value is not shown, as it may be a secret."""
        values = self._values.get(key)
        self._taken.add(key)
        if (
            not isinstance(values, list)
            or not all(isinstance(text, str) for text in values)
            or not any(values[:1])
        ):
            raise self.error(key, "expected a list of texts in quotes", 'write ["…", "…"]')
        return tuple(values)

    def know(self, *keys: str) -> None:
        """These are keys of the table, whether they are there or not."""
        self._taken.update(keys)

    def refuse_secrets(self) -> None:
        """Refuse passwords and keys in the configuration, which others may read and copy."""
        for key in self._values:
            if key.lower() in SECRET_KEYS or isinstance(self._values[key], Mapping):
                raise self.error(
                    key,
                    "passwords and keys are not written into this file",
                    "put them into a file of mode 0600 as a table [name] with password, "
                    "encryption_key and authentication_key, name that file in [credentials] file, "
                    'and give the meter credentials = "name"; change the secret if others could '
                    "read it here",
                )

    def finish(self) -> None:
        """Refuse keys that nobody asked for: a misspelt key must not be ignored silently."""
        for key in self._values:
            if key not in self._taken:
                raise self.error(
                    key,
                    "is no key of this table",
                    f"remove it or correct its spelling (known: {', '.join(sorted(self._taken))})",
                )

    def _value(self, key: str, kind: type, form: str) -> Any:
        self._taken.add(key)
        if key not in self._values:
            raise self.error(key, "is missing", f"add {key} = … ({form})")
        value = self._values[key]
        if not isinstance(value, kind):
            raise self.error(key, f"expected {form}, came {value!r}", "correct it")
        return value
