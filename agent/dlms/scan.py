"""Finds the meters of a DLMS line: SNRM to one server address after another, then who it is.

Only reads. A UA proves a meter, and so does a refusal (DM, FRMR). The serial
number is asked as the public client, which needs no password.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.client import Client
from agent.dlms.driver import DlmsDriver
from agent.dlms.link.frame import LinkParameters, client_address, server_address
from agent.dlms.link.hdlc import Closed, Failed, Link, Opened
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.meter_class import FOLDER, load_meter_class
from agent.dlms.security.settings import Security
from agent.driver import ReadError
from agent.line.port import Port
from wire.clock import Clock

PHYSICAL: Final = range(16, 64)
"""Physical addresses that are asked when nothing else is said: 16 is the first that is free for
meters, and makers count up from there."""
RESPONSE_S: Final = 0.25
_PUBLIC_SAP: Final = 16
_SERIAL: Final = Attribute.parse("1/0.0.96.1.0.255/2")
_UA_BYTES: Final = 42
"""A UA with all its parameters, with some room."""


@dataclass(frozen=True, slots=True)
class FoundServer:
    """One server address that answers, and what it lets everyone know."""

    address: str
    serial: str | None
    fits: tuple[str, ...]


def models() -> tuple[str, ...]:
    """Meter classes that ship with the agent."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def look(
    port: Port,
    address: str,
    candidates: tuple[str, ...],
    clock: Clock,
    *,
    password: bytes | None = None,
    response_s: float = RESPONSE_S,
) -> FoundServer | None:
    """Who answers at `address`; None if nobody does, after `response_s` twice. Raises PortLost."""
    if not answers(port, address, response_s) and not answers(port, address, response_s):
        return None
    fits = []
    serial = _public_serial(port, address)
    for model, read_serial in _fitting(port, address, candidates, clock, password):
        fits.append(model)
        serial = serial or read_serial
    return FoundServer(address, serial, tuple(fits))


def answers(port: Port, address: str, response_s: float = RESPONSE_S) -> bool:
    """Whether anything at `address` answers SNRM; the link that this made is ended again."""
    client, server = client_address(_PUBLIC_SAP), server_address(address)
    link = Link(client, server, LinkParameters(), longest_answer=1)
    if not _turn(port, link, link.open(), response_s):
        return False
    _turn(port, link, link.close(), response_s)
    return True


def _turn(port: Port, link: Link, data: bytes, response_s: float) -> bool:
    """Send once; whether the link had an outcome before the answer's time was over."""
    port.discard()
    port.write(data)
    until_s = time.monotonic() + (len(data) + _UA_BYTES) * port.char_s + response_s
    while heard := port.read(link.needed, until_s):
        if any(isinstance(outcome, Opened | Closed | Failed) for outcome in link.receive(heard)):
            return True
    return False


def _public_serial(port: Port, address: str) -> str | None:
    settings = LinkSettings(tries=1)
    name = f"DLMS meter {address}"
    carrier = HdlcCarrier(
        port,
        settings,
        client_address=client_address(_PUBLIC_SAP),
        server_address=server_address(address),
        name=name,
    )
    client = Client(carrier, Security(), name=name)
    try:
        with client:
            value = client.get(_SERIAL)
    except ReadError:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ") or None


def _fitting(
    port: Port, address: str, candidates: tuple[str, ...], clock: Clock, password: bytes | None
) -> Iterator[tuple[str, str | None]]:
    for model in candidates:
        meter_class = load_meter_class(model)
        if meter_class.needs_password and password is None:
            continue
        driver = DlmsDriver.on_port(
            port, meter_class, clock, server_address=address, password=password
        )
        try:
            sample = driver.sample()
        except ReadError:
            continue
        yield model, sample.serial
