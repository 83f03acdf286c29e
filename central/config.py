"""central.toml: what the collector, the loader and the API of one tenant need to know.

Unknown sections and keys are errors: a misspelt key must not silently leave a
default in place. Paths are relative to the file that names them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wire.clock import Clock, SharedClock, SystemClock


class ConfigError(ValueError):
    """The configuration is not usable; the message names file, line, key and remedy."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """Where the broker is and with which certificate the collector shows itself."""

    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class ApiPlace:
    """Where the API listens; `open` lets everyone in without a login (demo only)."""

    host: str
    port: int
    open: bool


@dataclass(frozen=True, slots=True)
class MetricsPlaces:
    """Where collector and loader show `/metrics`; port 0 takes any free port."""

    host: str
    collector_port: int
    loader_port: int


@dataclass(frozen=True, slots=True)
class EnrolPlace:
    """Where the enrolment server listens, and what it tells devices."""

    host: str
    port: int
    names: tuple[str, ...]
    """Names and addresses under which devices reach it; tokens carry the first."""
    broker_host: str
    broker_port: int
    reload_broker: tuple[str, ...]
    """A command that lets the broker read the revocation list; empty: somebody does it."""


@dataclass(frozen=True, slots=True)
class Config:
    """One tenant's centre on this machine."""

    source: Path
    tenant: str
    data_dir: Path
    clock_file: Path | None
    interval_s: int
    broker: BrokerAccess
    keys_dir: Path
    journal_dir: Path
    lake_dir: Path
    api: ApiPlace
    metrics: MetricsPlaces
    enrol: EnrolPlace | None = None
    """None: devices get bundles of the centre."""

    @property
    def aggregates_file(self) -> Path:
        """Map aggregates; the loader alone writes it."""
        return self.data_dir / "aggregates.db"

    @property
    def registry_file(self) -> Path:
        """Grid, assets, users and audit; the API alone writes it."""
        return self.data_dir / "registry.db"

    @property
    def loader_file(self) -> Path:
        """Rosters, days to refresh and batches that did not open; the loader alone writes it."""
        return self.data_dir / "loader.db"

    @property
    def device_log_file(self) -> Path:
        """The concentrators' own logs; written by the loader."""
        return self.data_dir / "device_log.db"

    @property
    def events_file(self) -> Path:
        """Entries of meters' event logs; the loader alone writes it."""
        return self.data_dir / "events.db"

    def clock(self) -> Clock:
        """The system's clock, or the shared one of a demo or bench."""
        return SystemClock() if self.clock_file is None else SharedClock(self.clock_file)


def load_config(path: Path) -> Config:
    """Read `path`; raises ConfigError, or OSError if it cannot be read."""
    text = path.read_text()
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}; correct that line") from error
    return _Reader(path, text).config(table)


class _Reader:
    """Reads checked values and knows on which line a key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def config(self, table: Mapping[str, Any]) -> Config:
        known = {
            "": {"tenant", "data_dir", "clock_file", "interval_min", *_SECTIONS},
            **_SECTIONS,
        }
        self._refuse_unknown("", table, known[""])
        sections = {name: self._section(table, name) for name in _SECTIONS}
        for name, section in sections.items():
            self._refuse_unknown(name, section, known[name])
        tenant = self._text("", table, "tenant")
        data_dir = self._needed_path("", table, "data_dir")
        broker, metrics, api = sections["broker"], sections["metrics"], sections["api"]
        return Config(
            source=self._path,
            tenant=tenant,
            data_dir=data_dir,
            clock_file=self._path_of("", table, "clock_file", needed=False),
            interval_s=60 * self._number("", table, "interval_min", 5, 30, default=15),
            broker=BrokerAccess(
                host=self._text("broker", broker, "host"),
                port=self._number("broker", broker, "port", 1, 65535, default=8883),
                ca_file=self._needed_path("broker", broker, "ca_file"),
                cert_file=self._needed_path("broker", broker, "cert_file"),
                key_file=self._needed_path("broker", broker, "key_file"),
            ),
            keys_dir=self._needed_path("keys", sections["keys"], "dir"),
            journal_dir=self._store(sections["store"], "journal", "sqlite", data_dir / "journal"),
            lake_dir=self._store(sections["store"], "lake", "file", data_dir / "lake"),
            api=ApiPlace(
                host=self._text("api", api, "host", default="127.0.0.1"),
                port=self._number("api", api, "port", 0, 65535, default=8080),
                open=self._switch("api", api, "open"),
            ),
            metrics=MetricsPlaces(
                host=self._text("metrics", metrics, "host", default="127.0.0.1"),
                collector_port=self._number(
                    "metrics", metrics, "collector_port", 0, 65535, default=0
                ),
                loader_port=self._number("metrics", metrics, "loader_port", 0, 65535, default=0),
            ),
            enrol=self._enrol(sections["enrol"], broker) if "enrol" in table else None,
        )

    def _enrol(self, table: Mapping[str, Any], broker: Mapping[str, Any]) -> EnrolPlace:
        names = self._texts("enrol", table, "names")
        if not names:
            raise self._wrong("enrol", "names", "at least one name", names, "name this server")
        port = self._number("broker", broker, "port", 1, 65535, default=8883)
        return EnrolPlace(
            host=self._text("enrol", table, "host", default="0.0.0.0"),
            port=self._number("enrol", table, "port", 1, 65535, default=8884),
            names=names,
            broker_host=self._text("enrol", table, "broker_host", default=names[0]),
            broker_port=self._number("enrol", table, "broker_port", 1, 65535, default=port),
            reload_broker=self._texts("enrol", table, "reload_broker"),
        )

    def _texts(self, section: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise self._wrong(section, key, "a list of texts", value, f'write {key} = ["…"]')
        return tuple(value)

    def _section(self, table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        section = table.get(name, {})
        if not isinstance(section, dict):
            raise self._wrong("", name, f"a section [{name}]", section, f"write [{name}]")
        self._check_engine(name, section)
        return section

    def _check_engine(self, name: str, section: Mapping[str, Any]) -> None:
        engine = section.get("engine", "duckdb:") if name == "store" else "duckdb:"
        if engine != "duckdb:":
            raise self._wrong("store", "engine", '"duckdb:"', engine, "write duckdb:")

    def _refuse_unknown(self, section: str, table: Mapping[str, Any], known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise ConfigError(
                    f"{self._where(section, key)}: unknown key; known here are "
                    f"{', '.join(sorted(known))}; correct the spelling or remove it"
                )

    def _text(
        self, section: str, table: Mapping[str, Any], key: str, default: str | None = None
    ) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or not value:
            raise self._wrong(section, key, "a text", value, f'write {key} = "…"')
        return value

    def _number(
        self,
        section: str,
        table: Mapping[str, Any],
        key: str,
        lowest: int,
        highest: int,
        default: int,
    ) -> int:
        value = table.get(key, default)
        if type(value) is not int or not lowest <= value <= highest:
            expected = f"a whole number from {lowest} to {highest}"
            raise self._wrong(section, key, expected, value, "correct the number")
        return value

    def _switch(self, section: str, table: Mapping[str, Any], key: str) -> bool:
        value = table.get(key, False)
        if type(value) is not bool:
            raise self._wrong(section, key, "true or false", value, "write it without quotes")
        return value

    def _path_of(
        self, section: str, table: Mapping[str, Any], key: str, needed: bool = True
    ) -> Path | None:
        if key not in table and not needed:
            return None
        return self._path.parent.absolute() / self._text(section, table, key)

    def _needed_path(self, section: str, table: Mapping[str, Any], key: str) -> Path:
        path = self._path_of(section, table, key)
        assert path is not None
        return path

    def _store(self, table: Mapping[str, Any], key: str, scheme: str, default: Path) -> Path:
        if key not in table:
            return default
        url = self._text("store", table, key)
        if not url.startswith(f"{scheme}:") or url == f"{scheme}:":
            expected = f'"{scheme}:DIRECTORY" (the only store of this version)'
            raise self._wrong("store", key, expected, url, "remove the key to use data_dir")
        return self._path.parent.absolute() / url.partition(":")[2].removeprefix("//")

    def _wrong(
        self, section: str, key: str, expected: str, came: object, remedy: str
    ) -> ConfigError:
        shown = "nothing" if came is None else repr(came)
        return ConfigError(
            f"{self._where(section, key)}: expected {expected}, came {shown}; {remedy}"
        )

    def _where(self, section: str, key: str) -> str:
        name = f"[{section}] {key}" if section else key
        inside = ""
        for number, line in enumerate(self._lines, start=1):
            header = re.match(r"\s*\[([^\[\]]+)\]", line)
            if header:
                inside = header[1].strip()
                if not section and inside == key:
                    return f"{self._path}, line {number}, {name}"
            elif inside == section and re.match(rf"\s*{re.escape(key)}\s*=", line):
                return f"{self._path}, line {number}, {name}"
        return f"{self._path}, {name}"


_SECTIONS: dict[str, set[str]] = {
    "broker": {"host", "port", "ca_file", "cert_file", "key_file"},
    "keys": {"dir"},
    "store": {"journal", "lake", "engine"},
    "api": {"host", "port", "open"},
    "metrics": {"host", "collector_port", "loader_port"},
    "enrol": {"host", "port", "names", "broker_host", "broker_port", "reload_broker"},
}
