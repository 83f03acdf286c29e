"""`agent.toml` as frozen values, or an error that names file, line, key and remedy.

Everything is checked that can be checked without opening a port or a key:
types, ranges, unknown keys, names that refer to each other, addresses taken
twice. What needs the machine (`ports`, `keys`) is checked by
`loadscape-agent check`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import clock_trust
from agent.config_lines import LineConfig as LineConfig
from agent.config_lines import MeterConfig as MeterConfig
from agent.config_lines import read_line, read_meter
from agent.credentials import CredentialsConfig
from agent.keys import providers
from agent.keys.folder import CURRENT, Generation
from agent.places import Places
from agent.tables import ConfigError as ConfigError
from agent.tables import Table, error_at
from agent.telling import EVERY_S
from wire import topics

INTERVALS_MIN = (5, 15, 30)
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z")
_SYSTEM_TITLE = re.compile(r"[0-9A-Fa-f]{16}\Z")
MOST_METERS = 4096
"""What one roster can name."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where the broker is and how the agent proves who it is."""

    host: str
    """Empty: where the centre said at enrolment (`agent.enrol.enrolled`)."""
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path
    systemd: str | None = None
    """Name of the unit's credential that `key_file` is sealed under."""
    state_every_s: int = EVERY_S
    """How often the numbers of the retained state are told while nothing that matters changes."""


@dataclass(frozen=True, slots=True)
class KeysConfig:
    """Files of the device's signing key, the tenant's root and the keyset."""

    sign_key_file: Path
    root_public_file: Path
    keyset_file: Path
    folder: Path | None = None
    """Where `enrol` keeps keys and certificates; None: the files are a bundle of the centre."""
    provider: str = providers.DEFAULT
    """Who keeps the sign key: a name of `agent.keys.providers`."""
    systemd: str | None = None
    """Name of the unit's credential that private keys are sealed under."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything in `agent.toml`."""

    tenant: str
    device: str
    data_dir: Path
    broker: BrokerConfig
    keys: KeysConfig
    lines: tuple[LineConfig, ...]
    meters: tuple[MeterConfig, ...]
    interval_min: int = 15
    recover_days: int = 7
    history_days: int = 62
    batch_intervals: int = 1
    sample_s: int = 60
    quota_mib: int = 256
    clock_trust: str = "auto"
    """Who says that the clock is right: a word of `agent.clock_trust.WORDS`."""
    clock_file: Path | None = None
    credentials: CredentialsConfig | None = None
    """Where the meters' passwords and keys come from."""
    dlms_system_title: bytes | None = None
    """What names this agent to DLMS meters that cipher, 8 bytes; None: made of the common name."""
    metrics_port: int | None = None
    places: Places = field(default_factory=Places, compare=False, repr=False)
    """Where each key stands in the file, for messages."""

    @property
    def interval_s(self) -> int:
        """Length of an interval, s."""
        return self.interval_min * 60

    @property
    def common_name(self) -> str:
        """`<tenant>-<device>`, the name in the certificate and in every topic."""
        return topics.common_name(self.tenant, self.device)

    def meters_of(self, line: str) -> tuple[MeterConfig, ...]:
        """The meters on one line, in the order of the file."""
        return tuple(meter for meter in self.meters if meter.line == line)


def load_config(path: Path) -> AgentConfig:
    """Read and check `agent.toml`; raises ConfigError. Relative paths mean: beside the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the right file with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, {error}; save the file as UTF-8"
        ) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}; correct that line") from error
    return _Document(path, text, content).config()


class _Document:
    """The parsed file together with the line on which each key stands."""

    def __init__(self, path: Path, text: str, content: Mapping[str, Any]) -> None:
        self.path = path
        self.content = content
        self.places = Places.of(path, text)

    def config(self) -> AgentConfig:
        for name in self.content:
            if name not in ("agent", "broker", "keys", "credentials", "line", "meter"):
                raise self.error(name, 0, None, "is no table of agent.toml", "remove it")
        agent = self.table("agent")
        tenant = agent.text("tenant")
        device = agent.text("device")
        try:
            topics.common_name(tenant, device)
        except topics.TopicError as error:
            raise self.error("agent", 0, "device", str(error), "rename it") from error
        lines = tuple(read_line(table) for table in self.tables("line"))
        by_name = {line.name: line for line in lines}
        credentials = self.table("credentials") if "credentials" in self.content else None
        keys = _keys(self.table("keys"))
        config = AgentConfig(
            tenant=tenant,
            device=device,
            data_dir=agent.path("data_dir"),
            interval_min=agent.choice("interval_min", INTERVALS_MIN, 15),
            recover_days=agent.number("recover_days", 0, 60, 7),
            history_days=agent.number("history_days", 1, 400, 62),
            batch_intervals=agent.number("batch_intervals", 1, 96, 1),
            sample_s=agent.number("sample_s", 1, 900, 60),
            quota_mib=agent.number("quota_mib", 4, 65536, 256),
            metrics_port=agent.optional_number("metrics_port", 1, 65535),
            clock_trust=agent.choice("clock_trust", clock_trust.WORDS, "auto"),
            clock_file=agent.optional_path("clock_file"),
            dlms_system_title=_system_title(agent),
            credentials=None if credentials is None else _credentials(credentials),
            broker=_broker(self.table("broker", optional=keys.folder is not None), keys),
            keys=keys,
            lines=lines,
            meters=tuple(read_meter(table, by_name) for table in self.tables("meter")),
            places=self.places,
        )
        agent.finish()
        self._refuse_duplicates(config)
        self._refuse_names_without_source(config)
        self._refuse_pushed_without_names(config)
        return config

    def table(self, name: str, *, optional: bool = False) -> Table:
        values = self.content.get(name, {} if optional else None)
        if not isinstance(values, Mapping):
            raise self.error(name, 0, None, "is missing", f"add a table [{name}]")
        return Table(self.places, name, 0, values)

    def tables(self, name: str) -> list[Table]:
        values = self.content.get(name, [])
        if not isinstance(values, list) or not values:
            raise self.error(name, 0, None, "is missing", f"add at least one [[{name}]]")
        return [Table(self.places, name, index, value) for index, value in enumerate(values)]

    def error(self, table: str, index: int, key: str | None, what: str, remedy: str) -> ConfigError:
        return error_at(self.places, table, index, key, what, remedy)

    def _refuse_duplicates(self, config: AgentConfig) -> None:
        if len(config.meters) > MOST_METERS:
            raise self.error(
                "meter",
                MOST_METERS,
                None,
                f"one agent reads at most {MOST_METERS} meters",
                "spread them over more agents",
            )
        self._refuse_twice("line", "name", [line.name for line in config.lines])
        self._refuse_twice("line", "port", [line.port for line in config.lines])
        self._refuse_twice("meter", "id", [meter.id for meter in config.meters])
        for key in ("unit", "server_address", "device_address", "system_title"):
            self._refuse_twice("meter", key, [_address(meter, key) for meter in config.meters])

    def _refuse_names_without_source(self, config: AgentConfig) -> None:
        for index, meter in enumerate(config.meters):
            if meter.credentials is not None and config.credentials is None:
                raise self.error(
                    "meter",
                    index,
                    "credentials",
                    "has no table [credentials] to come from",
                    "add one with file, systemd or command",
                )

    def _refuse_pushed_without_names(self, config: AgentConfig) -> None:
        """Of several meters that send on one line each has something that only it has."""
        pushed = {line.name for line in config.lines if line.is_pushed}
        for index, meter in enumerate(config.meters):
            if meter.line not in pushed or len(config.meters_of(meter.line)) == 1:
                continue
            key, named = "serial", bool(meter.serial or meter.server_address)
            if meter.credentials is not None:
                key, named = "system_title", bool(meter.system_title)
            if not named:
                raise self.error(
                    "meter",
                    index,
                    None,
                    f"shares the line {meter.line} with other meters that send, and has no {key}",
                    f"add {key}, by which its lists are known",
                )

    def _refuse_twice(self, table: str, key: str, values: list[Any]) -> None:
        seen: dict[Any, int] = {}
        for index, value in enumerate(values):
            if value is None:
                continue
            if value in seen:
                first = self.places.line(table, seen[value], key) or "?"
                shown = value[1] if isinstance(value, tuple) else value
                raise self.error(
                    table,
                    index,
                    key,
                    f"{shown!r} is already used in line {first} of the file",
                    "give each its own",
                )
            seen[value] = index


def _address(meter: MeterConfig, key: str) -> tuple[str, ...] | None:
    """What no other meter may have; None where this one has no such address."""
    own = getattr(meter, key)
    if own in (None, "", b""):
        return None
    # Meters that are woken one at a time may have the same address behind that.
    woken = (meter.device_address,) if key == "server_address" else ()
    return (meter.line, own, *woken)


def _broker(table: Table, keys: KeysConfig) -> BrokerConfig:
    """Whoever has enrolled has certificates in the folder of keys, and may leave out the rest."""
    if keys.folder is None:
        files = {key: table.path(key) for key in ("ca_file", "cert_file", "key_file")}
    else:
        current = Generation(keys.folder / CURRENT)
        files = {
            "ca_file": current.authority_certificate,
            "cert_file": current.tls_certificate,
            "key_file": current.tls_key,
        }
    as_enrolled = keys.folder is not None and not table.has("host")
    broker = BrokerConfig(
        host="" if as_enrolled else table.text("host"),
        port=table.number("port", 1, 65535, 8883),
        systemd=keys.systemd,
        state_every_s=table.number("state_every_s", 2, 86_400, EVERY_S),
        **files,
    )
    if as_enrolled and table.has("port"):
        raise table.error("port", "stands without host", "add host, or remove both")
    table.finish()
    return broker


def _keys(table: Table) -> KeysConfig:
    folder = table.optional_path("folder")
    if folder is None:
        keys = KeysConfig(
            sign_key_file=table.path("sign_key_file"),
            root_public_file=table.path("root_public_file"),
            keyset_file=table.path("keyset_file"),
        )
        table.finish()
        return keys
    current = Generation(folder / CURRENT)
    keys = KeysConfig(
        sign_key_file=current.sign_key,
        root_public_file=current.root_public,
        keyset_file=current.keyset,
        folder=folder,
        provider=table.choice("provider", tuple(providers.PROVIDERS), providers.DEFAULT),
        systemd=_credential(table),
    )
    table.finish()
    return keys


def _credential(table: Table) -> str | None:
    table.know("systemd")
    if not table.has("systemd"):
        return None
    return table.matching("systemd", _CREDENTIAL, "the name of a credential of the unit")


def _credentials(table: Table) -> CredentialsConfig:
    table.refuse_secrets()
    given = [key for key in ("file", "systemd", "command") if table.has(key)]
    if len(given) != 1:
        raise table.error(
            given[1] if given else None,
            f"expected one of file, systemd and command, came {len(given)}",
            "choose where the credentials come from",
        )
    config = CredentialsConfig(
        file=table.optional_path("file"),
        systemd=_credential(table),
        command=_command(table) if table.has("command") else (),
        timeout_s=table.number("timeout_s", 1, 60, 10),
    )
    if table.has("timeout_s") and not config.command:
        raise table.error("timeout_s", "counts only for a command", "remove it")
    table.finish()
    return config


def _command(table: Table) -> tuple[str, ...]:
    command = table.texts("command")
    if not command[0].startswith("/"):
        # So that nothing in PATH decides which program is handed the keys.
        raise table.error("command", "expected a program's full path", 'write it from "/" on')
    return command


def _system_title(table: Table) -> bytes | None:
    if not table.has("dlms_system_title"):
        table.know("dlms_system_title")
        return None
    form = "8 bytes as 16 hex digits"
    return bytes.fromhex(table.matching("dlms_system_title", _SYSTEM_TITLE, form))
