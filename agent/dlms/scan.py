"""Finds the meters of a DLMS line: SNRM to one server address after another, then who it is.

Only reads. A UA proves a meter, and so does a refusal (DM, FRMR). Who it is is
asked as the public client, which needs no password.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.client import Client
from agent.dlms.constants import PUBLIC_CLIENT
from agent.dlms.errors import DlmsError, NoAnswer
from agent.dlms.link.frame import LinkParameters, client_address, server_address
from agent.dlms.link.hdlc import Closed, Failed, Link, Opened
from agent.dlms.meter_class import FOLDER
from agent.line.port import Port

PHYSICAL: Final = range(16, 64)
"""Physical addresses that are asked when nothing else is said: 16 is the first that is free for
meters, and makers count up from there."""
WRAPPER_PORTS: Final = range(1, 17)
"""wPorts that are asked on a TCP connection; 1 is the management device, which each meter has."""
RESPONSE_S: Final = 0.25
_SERIAL: Final = Attribute.parse("1/0.0.96.1.0.255/2")
_DEVICE_NAME: Final = Attribute.parse("1/0.0.42.0.0.255/2")
_COMMONEST: Final = "idis_residential"
_UA_BYTES: Final = 42
"""A UA with all its parameters, with some room."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a meter lets everyone know; None where it does not tell."""

    serial: str | None = None
    device_name: str | None = None
    """Logical device name: three letters of the maker, then the maker's own."""


def models() -> tuple[str, ...]:
    """Meter classes that ship with the agent, the commonest first."""
    names = (file.stem for file in FOLDER.glob("*.toml"))
    return tuple(sorted(names, key=lambda name: (not name.startswith(_COMMONEST), name)))


def answers(
    port: Port, address: str, address_bytes: int | None = None, response_s: float = RESPONSE_S
) -> bool:
    """Whether anything at an HDLC address answers SNRM, asked twice at most; raises PortLost.

    The link that this made is ended again.
    """
    client, server = client_address(PUBLIC_CLIENT), server_address(address, address_bytes)
    link = Link(client, server, LinkParameters(), longest_answer=1)
    for _ in range(2):
        if _turn(port, link, link.open(), response_s):
            _turn(port, link, link.close(), response_s)
            return True
    return False


def identity(client: Client) -> Identity | None:
    """Who answers the public client; None if nobody does. Raises PortLost.

    A meter that has no public client, or tells it nothing, is there all the same.
    """
    try:
        with client:
            return Identity(_text(client, _SERIAL), _text(client, _DEVICE_NAME))
    except NoAnswer:
        return None
    except DlmsError:
        return Identity()


def _text(client: Client, attribute: Attribute) -> str | None:
    try:
        value = client.get(attribute)
    except NoAnswer:
        raise
    except DlmsError:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return "".join(char for char in text if char.isprintable()).strip() or None


def _turn(port: Port, link: Link, data: bytes, response_s: float) -> bool:
    """Send once; whether the link had an outcome before the answer's time was over."""
    port.discard()
    port.write(data)
    until_s = time.monotonic() + (len(data) + _UA_BYTES) * port.char_s + response_s
    while heard := port.read(link.needed, until_s):
        if any(isinstance(outcome, Opened | Closed | Failed) for outcome in link.receive(heard)):
            return True
    return False
