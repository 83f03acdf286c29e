"""The configuration as a support bundle shows it: known keys only, names replaced, no comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from agent.config import AgentConfig, BrokerConfig, KeysConfig, LineConfig, MeterConfig
from agent.credentials import CredentialsConfig, CredentialsError, names_in, read_source, secrets_in
from agent.diagnosis.redaction import BLANK, Redactor, secret_forms

_KNOWN: Final = {
    "agent": AgentConfig,
    "broker": BrokerConfig,
    "keys": KeysConfig,
    "credentials": CredentialsConfig,
    "line": LineConfig,
    "meter": MeterConfig,
}
_SECRET_FILES: Final = ("sign_key_file", "key_file", "password_file")
_TABLES: Final = ("broker", "keys", "credentials", "lines", "meters", "places")
"""Values of the configuration that are no keys of `[agent]`."""
_TCP: Final = ("modbus-tcp", "dlms-tcp")
_WORDS: Final = (
    *("modbus", "dlms", *_TCP, "N", "E", "O", "adapter", "kernel"),
    *("none", "mode-e", "wrapper", "hdlc"),
)
"""Values that are no name even if something is named like them."""
_PLAIN_LINE: Final = re.compile(
    r"(?:modbus|dlms|rtu|tcp|rs-?485|line|bus)(?:[-_ ]?[0-9]+)?\Z", re.I
)
"""Names of lines that tell nothing about a place."""
_SYSTEM_FOLDERS: Final = ("/dev", "/etc/loadscape", "/var/lib/loadscape", "/opt/loadscape", "/usr")

Raw = Mapping[str, Any]


def tell_names(redactor: Redactor, path: Path, raw: Raw) -> None:
    """Tell the redactor every name and every secret that the configuration leads to."""
    _folder(redactor, path.parent)
    for table, values in _tables(raw):
        if table == "credentials":
            _tell_credentials(redactor, path.parent, values)
        for key, value in values.items():
            if not _is_shown(table, key, value):
                redactor.secret(_texts(value))
            elif isinstance(value, str):
                _tell(redactor, path.parent, table, key, value)
            elif key == "command" and isinstance(value, list):
                # An argument may be a token.
                redactor.secret(_texts(value[1:]))


def shown(redactor: Redactor, raw: Raw, problem: str | None) -> str:
    """The configuration as TOML; values of keys that nobody knows are blanked."""
    lines = [f"# {redactor.text(line)}" for line in (problem or "").splitlines()]
    for table, values in _tables(raw):
        lines += ["", f"[[{table}]]" if table in ("line", "meter") else f"[{table}]"]
        for key, value in values.items():
            name = key if _is_known(table, key) else redactor.text(key)
            value = value if _is_shown(table, key, value) else BLANK
            lines.append(f"{_key(name)} = {_literal(redactor, value)}")
    return "\n".join(lines).strip() + "\n"


def ports_of(raw: Raw) -> tuple[str, ...]:
    """The serial ports that the configuration names."""
    values = [table for name, table in _tables(raw) if name == "line"]
    named = [table.get("port") for table in values if table.get("protocol") not in _TCP]
    return tuple(port for port in named if isinstance(port, str))


def profiles(folder: Path, raw: Raw) -> Iterator[tuple[str, str]]:
    """Each model in use once, with its profile's text; a model without a profile is left out."""
    named = [table.get("model") for name, table in _tables(raw) if name == "meter"]
    for model in sorted({model for model in named if isinstance(model, str)}):
        for source in _profile_files(folder, model):
            try:
                if source.is_file():
                    yield model, source.read_bytes().decode("utf-8", "replace")
            except OSError as error:
                yield model, f"# cannot be read: {error.strerror}\n"


def is_own_profile(model: str) -> bool:
    """Whether the profile is a file of the user's; the others are public."""
    return model.endswith(".toml")


def _profile_files(folder: Path, model: str) -> Iterator[Traversable]:
    """Where the profile of a model may lie."""
    if is_own_profile(model):
        yield folder / model
        return
    for protocol in ("modbus", "dlms"):
        yield resources.files(f"agent.{protocol}").joinpath("profiles", f"{model}.toml")


def _tell(redactor: Redactor, folder: Path, table: str, key: str, value: str) -> None:
    match table, key:
        case ("agent", "tenant" | "device") | ("broker", "host") | ("meter", "serial"):
            redactor.name(key, value)
        case "meter", "device_address":
            # Mostly it is the serial number, or the end of it.
            redactor.name("serial", value)
        case "meter", "id":
            redactor.name("meter", value)
        case ("meter", "credentials") | ("credentials", "systemd"):
            redactor.name("credentials", value)
        case "line", "name":
            if not _PLAIN_LINE.match(value):
                redactor.name("line", value)
        case "line", "port":
            if value.startswith(("/", ".")):
                _folder(redactor, Path(value).parent)
            else:
                redactor.name("host", value.rpartition(":")[0].strip("[]") or value)
        case "keys", "folder":
            _folder(redactor, folder / value)
            for name in ("sign.key", "tls.key"):
                for file in (folder / value).glob(f"*/{name}"):
                    _tell_secret(redactor, file)
        case "keys", "systemd":
            redactor.name("credentials", value)
        case _, _ if key.endswith("_file") or key in ("data_dir", "file"):
            file = folder / value
            _folder(redactor, file if key == "data_dir" else file.parent)
            if key in _SECRET_FILES:
                _tell_secret(redactor, file)


def _tell_secret(redactor: Redactor, file: Path) -> None:
    try:
        content = file.read_bytes()
    except OSError:
        # What this user cannot read, no part of the bundle can have read either.
        return
    redactor.secret(secret_forms(content))


def _tell_credentials(redactor: Redactor, folder: Path, table: Raw) -> None:
    """Read the credentials, whatever is wrong with their rights, so that none can be shown."""
    file, systemd, command = table.get("file"), table.get("systemd"), table.get("command")
    try:
        if isinstance(file, str):
            content = (folder / file).read_bytes()
        elif isinstance(systemd, str):
            content = read_source(CredentialsConfig(systemd=systemd))
        elif isinstance(command, list) and command:
            content = read_source(CredentialsConfig(command=tuple(map(str, command))))
        else:
            return
    except (OSError, CredentialsError):
        # What this user cannot read, no part of the bundle can have read either.
        return
    for name in names_in(content):
        redactor.name("credentials", name)
    for secret in secrets_in(content):
        redactor.secret(secret_forms(secret))


def _folder(redactor: Redactor, folder: Path) -> None:
    """A folder of the user's own choice may be named after a customer."""
    for form in {str(folder), str(folder.absolute()), str(folder.resolve())}:
        # Without a slash it would be a word, found all over the place.
        if "/" in form and form != "/" and not form.startswith(_SYSTEM_FOLDERS):
            redactor.name("folder", form)


def _tables(raw: Raw) -> Iterator[tuple[str, Raw]]:
    for name, content in raw.items():
        for values in content if isinstance(content, list) else [content]:
            if isinstance(values, Mapping):
                yield name, values


def _is_known(table: str, key: str) -> bool:
    if table == "agent" and key in _TABLES:
        return False
    return table in _KNOWN and key in _KNOWN[table].__slots__  # type: ignore[attr-defined]


def _is_shown(table: str, key: str, value: Any) -> bool:
    """No key has a table as its value; one that does may hold secrets at the wrong place."""
    return _is_known(table, key) and not isinstance(value, Mapping)


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a value that must not be shown."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif not isinstance(value, bool):
        yield str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _literal(redactor: Redactor, value: Any) -> str:
    """A TOML literal; JSON's texts, numbers, truth values and lists are TOML's too."""
    if value == BLANK or (isinstance(value, str) and value in _WORDS):
        return json.dumps(value)
    return json.dumps(redactor.value(value), default=str, ensure_ascii=False)
