"""`[[line]]` and `[[meter]]` of `agent.toml`: what a line is, and which keys its meters have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from agent.tables import Table

_METER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_SERIAL = re.compile(r"[!-~]([ -~]{0,46}[!-~])?\Z")
_ENDPOINT = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})\Z")
_PROTOCOLS: Final = ("modbus", "modbus-tcp", "dlms", "dlms-tcp", "dlms-push", "dlms-push-tcp")
_WRAPPER_ADDRESS = re.compile(r"[0-9]{1,5}\Z")
_DEVICE_ADDRESS = re.compile(r"[A-Za-z0-9 ]{1,32}\Z")
_SERVER_ADDRESS = re.compile(r"[0-9]{1,5}(/[0-9]{1,5})?\Z")
_SYSTEM_TITLE = re.compile(r"[0-9A-Fa-f]{16}\Z")

MOST_CLIENT_SAP: Final = 0x7E
"""127 means all stations, as an address of one byte has no more bits (IEC 62056-46, 6.4.2)."""


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One serial line, or one gateway's; never two protocols on one pair of wires."""

    name: str
    port: str
    """A device's path; `host:port` of a TCP gateway, of a meter with a network port, or of the
    agent itself where meters connect to it."""
    protocol: Literal["modbus", "modbus-tcp", "dlms", "dlms-tcp", "dlms-push", "dlms-push-tcp"]
    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1
    rs485: Literal["adapter", "kernel"] = "adapter"
    """Who switches the driver between sending and listening."""
    rts_high_while_sending: bool = True
    rts_before_ms: int = 0
    rts_after_ms: int = 0
    opening: Literal["none", "mode-e"] = "none"
    """How DLMS meters on a serial line are woken: at once, or by IEC 62056-21 mode E."""
    framing: Literal["wrapper", "hdlc"] = "wrapper"
    """What carries DLMS over TCP: the wrapper, or HDLC as on the line behind a gateway."""

    @property
    def is_tcp(self) -> bool:
        """Whether `port` is `host:port`."""
        return self.protocol in ("modbus-tcp", "dlms-tcp", "dlms-push-tcp")

    @property
    def is_pushed(self) -> bool:
        """Whether the line's meters send by themselves, and nothing is ever sent to them."""
        return self.protocol in ("dlms-push", "dlms-push-tcp")

    @property
    def is_dlms(self) -> bool:
        """Whether the line's meters speak DLMS."""
        return self.protocol in ("dlms", "dlms-tcp", "dlms-push", "dlms-push-tcp")

    @property
    def char_s(self) -> float:
        """Time of one character on the wires, s; 0 where there are none behind a network."""
        if self.protocol == "dlms-tcp" and self.framing == "wrapper":
            return 0.0
        return (1 + 8 + (self.parity != "N") + self.stopbits) / self.baud

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and TCP port of a gateway."""
        host, _, port = self.port.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """One meter: `unit` on a Modbus line, `server_address` and credentials on a DLMS line."""

    id: str
    line: str
    model: str
    unit: int | None = None
    server_address: str | None = None
    client_sap: int | None = None
    """Client address of the association; None: the meter class's."""
    device_address: str = ""
    """Which meter of its line the mode E opening wakes; empty: whichever hears it."""
    password_file: Path | None = None
    credentials: str | None = None
    """Name of the meter's table in what `[credentials]` leads to."""
    serial: str = ""
    """Set by hand, for a meter that does not tell its serial number; of one that sends by itself
    and tells it, what it has to tell."""
    system_title: bytes = b""
    """What names a meter that sends ciphered lists, 8 bytes; empty: any."""
    current_ratio: Fraction = Fraction(1)
    voltage_ratio: Fraction = Fraction(1)


def read_line(table: Table) -> LineConfig:
    """One `[[line]]`; raises ConfigError."""
    protocol = table.choice("protocol", _PROTOCOLS, None)
    line = LineConfig(
        name=table.text("name"),
        port=table.text("port"),
        protocol=protocol,
        baud=table.number("baud", 300, 1_000_000, 9600),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stopbits=table.choice("stopbits", (1, 2), 1),
    )
    line = replace(line, port=_endpoint(table)) if line.is_tcp else _switched(table, line)
    if protocol == "dlms":
        line = replace(line, opening=table.choice("opening", ("none", "mode-e"), "none"))
    if protocol == "dlms-tcp":
        line = replace(line, framing=table.choice("framing", ("wrapper", "hdlc"), "wrapper"))
    for key, protocols in (("opening", '"dlms"'), ("framing", '"dlms-tcp"')):
        if table.has(key) and f'"{protocol}"' != protocols:
            raise table.error(key, f"counts only where protocol = {protocols}", "remove it")
    table.finish()
    return line


def _switched(table: Table, line: LineConfig) -> LineConfig:
    """A serial line with what its transceiver needs."""
    if table.choice("rs485", ("adapter", "kernel"), "adapter") == "kernel":
        return replace(
            line,
            rs485="kernel",
            rts_high_while_sending=table.flag("rts_high_while_sending", True),
            rts_before_ms=table.number("rts_before_ms", 0, 100, 0),
            rts_after_ms=table.number("rts_after_ms", 0, 100, 0),
        )
    for key in ("rts_high_while_sending", "rts_before_ms", "rts_after_ms"):
        if table.has(key):
            raise table.error(
                key, "counts only where the kernel switches", 'remove it or set rs485 = "kernel"'
            )
    return line


def _endpoint(table: Table) -> str:
    port = table.matching("port", _ENDPOINT, "a gateway's host:port, such as gateway.example:502")
    if not 1 <= int(port.rpartition(":")[2]) <= 65535:
        raise table.error("port", f"expected a TCP port of 1 to 65535, came {port!r}", "correct it")
    return port


def read_meter(table: Table, lines: Mapping[str, LineConfig]) -> MeterConfig:
    """One `[[meter]]`, with the keys of its line's protocol; raises ConfigError."""
    table.refuse_secrets()
    meter_id = table.matching("id", _METER_ID, "up to 64 letters, digits, '_', '.' or '-'")
    line_name = table.text("line")
    if line_name not in lines:
        raise table.error(
            "line",
            f"{line_name!r} is no [[line]] (there are: {', '.join(sorted(lines))})",
            "name one of them or add the line",
        )
    model = table.text("model")
    line = lines[line_name]
    read = _pushed_meter if line.is_pushed else _dlms_meter if line.is_dlms else _modbus_meter
    meter = read(table, line, meter_id, model)
    table.finish()
    return meter


def _modbus_meter(table: Table, line: LineConfig, meter_id: str, model: str) -> MeterConfig:
    form = "1 to 48 printable characters"
    return MeterConfig(
        meter_id,
        line.name,
        model,
        unit=table.number("unit", 1, 247),
        serial=table.matching("serial", _SERIAL, form) if table.has("serial") else "",
        current_ratio=table.ratio("current_ratio"),
        voltage_ratio=table.ratio("voltage_ratio"),
    )


def _pushed_meter(table: Table, line: LineConfig, meter_id: str, model: str) -> MeterConfig:
    title, form = "", "8 bytes as 16 hex digits"
    table.know("server_address", "credentials", "serial", "system_title")
    if table.has("system_title"):
        title = table.matching("system_title", _SYSTEM_TITLE, form)
        if not table.has("credentials"):
            raise table.error(
                "system_title",
                "names the sender of ciphered lists, and the meter has no keys",
                "add credentials, or remove it",
            )
    pattern = _WRAPPER_ADDRESS if line.is_tcp else _SERVER_ADDRESS
    form = 'a wPort such as "1"' if line.is_tcp else 'an address such as "1/17"'
    serial_form = "1 to 48 printable characters"
    return MeterConfig(
        meter_id,
        line.name,
        model,
        server_address=table.matching("server_address", pattern, form)
        if table.has("server_address")
        else None,
        credentials=table.text("credentials") if table.has("credentials") else None,
        serial=table.matching("serial", _SERIAL, serial_form) if table.has("serial") else "",
        system_title=bytes.fromhex(title),
    )


def _dlms_meter(table: Table, line: LineConfig, meter_id: str, model: str) -> MeterConfig:
    if line.protocol == "dlms-tcp" and line.framing == "wrapper":
        # The wrapper has no physical address: whoever owns the connection is the meter.
        pattern, form = _WRAPPER_ADDRESS, 'a logical address such as "1" (wrapper)'
    else:
        pattern, form = _SERVER_ADDRESS, 'an address such as "1/17"'
    if table.has("password_file") and table.has("credentials"):
        raise table.error("password_file", "stands beside credentials", "remove one of them")
    table.know("credentials", "device_address")
    if table.has("device_address") and line.opening != "mode-e":
        raise table.error(
            "device_address", 'counts only where the line has opening = "mode-e"', "remove it"
        )
    return MeterConfig(
        meter_id,
        line.name,
        model,
        server_address=table.matching("server_address", pattern, form),
        client_sap=table.optional_number("client_sap", 1, MOST_CLIENT_SAP),
        device_address=table.matching(
            "device_address", _DEVICE_ADDRESS, "1 to 32 letters, digits or spaces"
        )
        if table.has("device_address")
        else "",
        password_file=table.optional_path("password_file"),
        credentials=table.text("credentials") if table.has("credentials") else None,
        current_ratio=table.ratio("current_ratio"),
        voltage_ratio=table.ratio("voltage_ratio"),
    )
