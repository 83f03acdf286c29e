"""`agent.toml` as frozen values, or an error that names file, line, key and remedy.

Everything is checked that can be checked without opening a port or a key:
types, ranges, unknown keys, names that refer to each other, addresses taken
twice. What needs the machine (`ports`, `keys`) is checked by
`loadscape-agent check`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from agent.places import Places
from agent.tables import ConfigError as ConfigError
from agent.tables import Table, error_at
from wire import topics

_METER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_SERIAL = re.compile(r"[!-~]([ -~]{0,46}[!-~])?\Z")
_ENDPOINT = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})\Z")
_SERVER_ADDRESS = re.compile(r"[0-9]{1,5}(/[0-9]{1,5})?\Z")

INTERVALS_MIN = (5, 15, 30)
MOST_METERS = 4096
"""What one roster can name."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Where the broker is and how the agent proves who it is."""

    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class KeysConfig:
    """Files of the device's signing key, the tenant's root and the keyset."""

    sign_key_file: Path
    root_public_file: Path
    keyset_file: Path


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One serial line, or one gateway's; never two protocols on one pair of wires."""

    name: str
    port: str
    """A device's path; `host:port` of a Modbus TCP gateway."""
    protocol: Literal["modbus", "modbus-tcp", "dlms"]
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1
    rs485: Literal["adapter", "kernel"] = "adapter"
    """Who switches the driver between sending and listening."""
    rts_high_while_sending: bool = True
    rts_before_ms: int = 0
    rts_after_ms: int = 0

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and TCP port of a gateway."""
        host, _, port = self.port.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """One meter: `unit` on a Modbus line, `server_address` (and password) on a DLMS line."""

    id: str
    line: str
    model: str
    unit: int | None = None
    server_address: str | None = None
    password_file: Path | None = None
    serial: str = ""
    """Set by hand, for a meter that does not tell its serial number."""
    current_ratio: Fraction = Fraction(1)
    voltage_ratio: Fraction = Fraction(1)


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
    history_days: int = 7
    batch_intervals: int = 1
    sample_s: int = 60
    quota_mib: int = 256
    clock_file: Path | None = None
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
            if name not in ("agent", "broker", "keys", "line", "meter"):
                raise self.error(name, 0, None, "is no table of agent.toml", "remove it")
        agent = self.table("agent")
        tenant = agent.text("tenant")
        device = agent.text("device")
        try:
            topics.common_name(tenant, device)
        except topics.TopicError as error:
            raise self.error("agent", 0, "device", str(error), "rename it") from error
        lines = tuple(_line(table) for table in self.tables("line"))
        by_name = {line.name: line for line in lines}
        config = AgentConfig(
            tenant=tenant,
            device=device,
            data_dir=agent.path("data_dir"),
            interval_min=agent.choice("interval_min", INTERVALS_MIN, 15),
            recover_days=agent.number("recover_days", 0, 60, 7),
            history_days=agent.number("history_days", 1, 400, 7),
            batch_intervals=agent.number("batch_intervals", 1, 96, 1),
            sample_s=agent.number("sample_s", 1, 900, 60),
            quota_mib=agent.number("quota_mib", 4, 65536, 256),
            metrics_port=agent.optional_number("metrics_port", 1, 65535),
            clock_file=agent.optional_path("clock_file"),
            broker=_broker(self.table("broker")),
            keys=_keys(self.table("keys")),
            lines=lines,
            meters=tuple(_meter(table, by_name) for table in self.tables("meter")),
            places=self.places,
        )
        agent.finish()
        self._refuse_duplicates(config)
        return config

    def table(self, name: str) -> Table:
        values = self.content.get(name)
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
        for key in ("unit", "server_address"):
            addresses = [
                None if getattr(meter, key) is None else (meter.line, getattr(meter, key))
                for meter in config.meters
            ]
            self._refuse_twice("meter", key, addresses)

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


def _broker(table: Table) -> BrokerConfig:
    broker = BrokerConfig(
        host=table.text("host"),
        port=table.number("port", 1, 65535, 8883),
        ca_file=table.path("ca_file"),
        cert_file=table.path("cert_file"),
        key_file=table.path("key_file"),
    )
    table.finish()
    return broker


def _keys(table: Table) -> KeysConfig:
    keys = KeysConfig(
        sign_key_file=table.path("sign_key_file"),
        root_public_file=table.path("root_public_file"),
        keyset_file=table.path("keyset_file"),
    )
    table.finish()
    return keys


def _line(table: Table) -> LineConfig:
    protocol = table.choice("protocol", ("modbus", "modbus-tcp", "dlms"), None)
    tcp = protocol == "modbus-tcp"
    line = LineConfig(
        name=table.text("name"),
        port=_endpoint(table) if tcp else table.text("port"),
        protocol=protocol,
        baud=table.number("baud", 300, 1_000_000, 9600),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stopbits=table.choice("stopbits", (1, 2), 1),
        rs485="adapter" if tcp else table.choice("rs485", ("adapter", "kernel"), "adapter"),
    )
    if line.rs485 == "kernel":
        line = replace(
            line,
            rts_high_while_sending=table.flag("rts_high_while_sending", True),
            rts_before_ms=table.number("rts_before_ms", 0, 100, 0),
            rts_after_ms=table.number("rts_after_ms", 0, 100, 0),
        )
    for key in ("rts_high_while_sending", "rts_before_ms", "rts_after_ms"):
        if table.has(key) and line.rs485 != "kernel":
            raise table.error(
                key, "counts only where the kernel switches", 'remove it or set rs485 = "kernel"'
            )
    table.finish()
    return line


def _endpoint(table: Table) -> str:
    port = table.matching("port", _ENDPOINT, "a gateway's host:port, such as gateway.example:502")
    if not 1 <= int(port.rpartition(":")[2]) <= 65535:
        raise table.error("port", f"expected a TCP port of 1 to 65535, came {port!r}", "correct it")
    return port


def _meter(table: Table, lines: Mapping[str, LineConfig]) -> MeterConfig:
    meter_id = table.matching("id", _METER_ID, "up to 64 letters, digits, '_', '.' or '-'")
    line_name = table.text("line")
    if line_name not in lines:
        raise table.error(
            "line",
            f"{line_name!r} is no [[line]] (there are: {', '.join(sorted(lines))})",
            "name one of them or add the line",
        )
    model = table.text("model")
    address = _ADDRESSES[lines[line_name].protocol]
    meter = address(table, meter_id, line_name, model)
    table.finish()
    return meter


def _modbus_meter(table: Table, meter_id: str, line: str, model: str) -> MeterConfig:
    form = "1 to 48 printable characters"
    return MeterConfig(
        meter_id,
        line,
        model,
        unit=table.number("unit", 1, 247),
        serial=table.matching("serial", _SERIAL, form) if table.has("serial") else "",
        current_ratio=table.ratio("current_ratio"),
        voltage_ratio=table.ratio("voltage_ratio"),
    )


def _dlms_meter(table: Table, meter_id: str, line: str, model: str) -> MeterConfig:
    address = table.matching("server_address", _SERVER_ADDRESS, 'an address such as "1/17"')
    password_file = table.optional_path("password_file")
    return MeterConfig(meter_id, line, model, server_address=address, password_file=password_file)


_ADDRESSES: dict[str, Callable[[Table, str, str, str], MeterConfig]] = {
    "modbus": _modbus_meter,
    "modbus-tcp": _modbus_meter,
    "dlms": _dlms_meter,
}
