"""Passwords and keys of meters: from a file, from systemd, or from a command's output.

All three give one TOML text with a table for each name that `[[meter]]
credentials` may use:

    [north]
    password = "…"                  # or password_hex = "…"
    encryption_key = "…"            # 16 or 32 bytes as hex digits, both keys of one length
    authentication_key = "…"

No message, `repr` or log line of this module holds a value of that text. A
parser's own message could quote one, so only the place is taken from it.
"""

from __future__ import annotations

import os
import re
import signal
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.tables import ConfigError

KEY_BYTES: Final = (16, 32)
"""Length of a key in suites 0 and 1, and in suite 2 (Green Book ed. 8, 9.2.3.7)."""
KEYS: Final = ("password", "password_hex", "encryption_key", "authentication_key")

_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z")
_PRINTABLE: Final = re.compile(r"[ -~]+\Z")
_PLACE: Final = re.compile(r"\((at [^()]*)\)\Z")
_MOST_BYTES: Final = 1 << 20


class CredentialsError(ConfigError):
    """Credentials cannot be used; the message says where and what to do, and shows no value."""


@dataclass(frozen=True, slots=True)
class CredentialsConfig:
    """Where `[credentials]` says that the credentials come from; one of the three is set."""

    file: Path | None = None
    systemd: str | None = None
    """Name of a credential of the service (`LoadCredentialEncrypted=`)."""
    command: tuple[str, ...] = ()
    """Program and arguments; run without a shell."""
    timeout_s: int = 10
    """Longest time that the command may take, s."""

    @property
    def where(self) -> str:
        """For the head of a message; a command's arguments may hold a token and are left out."""
        if self.file is not None:
            return str(self.file)
        if self.systemd is not None:
            return f"systemd credential {self.systemd}"
        return f"output of {self.command[0]}" if self.command else "no [credentials]"


@dataclass(frozen=True, slots=True)
class Credential:
    """The secrets of one name; each may be absent, but not all."""

    name: str
    password: bytes | None = field(default=None, repr=False)
    encryption_key: bytes | None = field(default=None, repr=False)
    authentication_key: bytes | None = field(default=None, repr=False)


class Credentials:
    """What one source gave, by name."""

    def __init__(self, where: str, of_name: Mapping[str, Credential]) -> None:
        self._where = where
        self._of_name = dict(of_name)

    def __repr__(self) -> str:
        return f"Credentials({self._where!r}, {', '.join(self._of_name) or 'none'})"

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the source."""
        return tuple(self._of_name)

    def of(self, name: str) -> Credential:
        """The secrets of that name; raises CredentialsError."""
        if name not in self._of_name:
            known = ", ".join(sorted(self._of_name)) or "none"
            raise CredentialsError(
                f"{self._where}: expected a table [{name}] (there are: {known}); add it, or name "
                "one that is there"
            )
        return self._of_name[name]


def load_credentials(source: CredentialsConfig) -> Credentials:
    """Read and check all of a source; raises CredentialsError."""
    where = source.where
    tables = _parsed(where, read_source(source))
    return Credentials(where, {name: _credential(where, name, tables[name]) for name in tables})


def read_source(source: CredentialsConfig) -> bytes:
    """The TOML text of a source, not looked into; raises CredentialsError."""
    if source.file is not None:
        return _read_file(source.file)
    if source.systemd is not None:
        return _read_systemd(source.systemd)
    if source.command:
        return _read_command(source.command, source.timeout_s)
    raise CredentialsError(
        "[credentials]: is missing, and a meter names credentials; add the table with file, "
        "systemd or command"
    )


def secrets_in(content: bytes) -> Iterator[bytes]:
    """Every value of such a text, for keeping them out of what leaves the machine.

    Of a text that is no TOML: whatever stands in quotes or behind an equals sign.
    """
    text = content.decode("utf-8", "replace")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        for line in text.splitlines():
            for found in re.split(r"[\"'=]", line):
                if len(found.strip()) > 1 and found.strip() not in KEYS:
                    yield found.strip().encode()
        return
    yield from _values(tables)


def names_in(content: bytes) -> tuple[str, ...]:
    """The names in such a text; none in one that is no TOML."""
    try:
        return tuple(tomllib.loads(content.decode("utf-8", "replace")))
    except tomllib.TOMLDecodeError:
        return ()


def _values(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    elif not isinstance(value, bool):
        yield str(value).encode()


def read_private(path: Path) -> bytes:
    """Content of a file of secrets; raises ConfigError, also where others get at them.

    A user who is neither root nor the one who reads could change the file,
    whatever its mode.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); correct the path, or chown the file to "
            "the agent's user"
        ) from error
    mode, user = status.st_mode & 0o777, os.geteuid()
    if mode & 0o077:
        raise ConfigError(
            f"{path}: mode {mode:o} lets others at the meters' passwords and keys; run chmod 600 "
            f"{path}"
        )
    if user and status.st_uid not in (0, user):
        raise ConfigError(
            f"{path}: belongs to user {status.st_uid}, expected {user}, who reads it, or root; run "
            f"chown {user} {path}"
        )
    return content


# --- the three sources


def _read_file(path: Path) -> bytes:
    try:
        return read_private(path)
    except ConfigError as error:
        raise CredentialsError(str(error)) from error


def _read_systemd(name: str) -> bytes:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise CredentialsError(
            f"systemd credential {name}: expected CREDENTIALS_DIRECTORY in the environment, which "
            f"only a service has; add LoadCredentialEncrypted={name} to the unit, or, as root "
            "while the service runs, set CREDENTIALS_DIRECTORY=/run/credentials/"
            "loadscape-agent.service for this command"
        )
    path = Path(folder) / name
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CredentialsError(
            f"{path}: cannot be read ({error.strerror}); add LoadCredentialEncrypted={name} to "
            "the unit, or correct [credentials] systemd"
        ) from error


def _read_command(command: tuple[str, ...], timeout_s: int) -> bytes:
    """What the command says; it and whatever it started are ended when the time is over."""
    import subprocess  # an agent without a command does without it

    where = f"[credentials] command {command[0]}"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # It may hold what must not be in a log, and nobody reads it here.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialsError(
            f"{where}: cannot be run ({error.strerror}); correct its path or its rights"
        ) from error
    with process:
        try:
            content, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # The exception holds what the command had said.
            raise CredentialsError(
                f"{where}: expected an end within {timeout_s} s, got none; run it by hand as the "
                "agent's user, or raise [credentials] timeout_s"
            ) from None
    if process.returncode:
        raise CredentialsError(
            f"{where}: expected exit code 0, got {process.returncode}; run it by hand as the "
            "agent's user to see what it says"
        )
    return content


# --- the text


def _parsed(where: str, content: bytes) -> dict[str, Any]:
    if len(content) > _MOST_BYTES:
        raise CredentialsError(
            f"{where}: expected at most {_MOST_BYTES} bytes, came more; give the right source"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CredentialsError(
            f"{where}: expected UTF-8 text, byte {error.start} is none; save it as UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        raise CredentialsError(
            f"{where}: not TOML{f' {place[1]}' if place else ''}; correct it there: tables "
            '[name] with lines such as password = "…"'
        ) from None


def _credential(where: str, name: str, table: Any) -> Credential:
    if not isinstance(table, Mapping):
        raise _wrong(
            where,
            None,
            name,
            "expected a table",
            f'put it below a line [name], not "{_shown(name)}" alone',
        )
    for key in table:
        if key not in KEYS:
            raise _wrong(
                where, name, key, "is no key of credentials", f"known are {', '.join(KEYS)}"
            )
    if not table:
        raise _wrong(where, name, None, "is empty", "write a password or both keys into it")
    keys = {
        key: _key(where, name, key, table[key])
        for key in ("encryption_key", "authentication_key")
        if key in table
    }
    if len(keys) == 1:
        (there,) = keys
        (absent,) = {"encryption_key", "authentication_key"} - {there}
        raise _wrong(where, name, absent, f"is missing beside {there}", "write both keys or none")
    if len({len(key) for key in keys.values()}) > 1:
        raise _wrong(
            where,
            name,
            "authentication_key",
            "is not as long as encryption_key",
            "suite 0 has 16 bytes each, suite 2 has 32",
        )
    return Credential(name, password=_password(where, name, table), **keys)


def _password(where: str, name: str, table: Mapping[str, Any]) -> bytes | None:
    if "password" in table and "password_hex" in table:
        raise _wrong(where, name, "password_hex", "stands beside password", "write one of them")
    if "password_hex" in table:
        return _hex(where, name, "password_hex", table["password_hex"])
    if "password" not in table:
        return None
    value = table["password"]
    if not isinstance(value, str) or not _PRINTABLE.match(value):
        raise _wrong(
            where,
            name,
            "password",
            "expected a text of printable ASCII in quotes, came another",
            "write other bytes as password_hex",
        )
    return value.encode("ascii")


def _key(where: str, name: str, key: str, value: Any) -> bytes:
    content = _hex(where, name, key, value)
    if len(content) not in KEY_BYTES:
        raise _wrong(
            where,
            name,
            key,
            f"expected 16 bytes (suite 0) or 32 (suite 2), came {len(content)}",
            "copy the whole key",
        )
    return content


def _hex(where: str, name: str, key: str, value: Any) -> bytes:
    if not isinstance(value, str) or not _HEX.match(value):
        raise _wrong(
            where,
            name,
            key,
            "expected an even number of hex digits in quotes, came another",
            "write 0-9 and a-f only, without spaces",
        )
    return bytes.fromhex(value)


def _shown(key: str) -> str:
    """An unknown key if it is a known one misspelt; another could be a secret at a wrong place."""
    from difflib import get_close_matches

    return key if get_close_matches(key, KEYS, 1, 0.7) else "(not shown)"


def _wrong(
    where: str, name: str | None, key: str | None, what: str, remedy: str
) -> CredentialsError:
    table = f" [{name}]" if name is not None else ""
    return CredentialsError(f"{where}:{table}{f' {_shown(key)}' if key else ''}: {what}; {remedy}")
