"""A simulated meter's security setup (IEC 62056-6-2, class 64): what it demands; its certificate.

The certificate is any octets and certifies nothing: it is there for the
methods of a meter that take much and return much.
"""

from __future__ import annotations

from typing import Final

from agent.dlms import axdr
from agent.dlms.constants import Tag
from hil.meters.dlms.results import DENIED, OTHER_REASON, SUCCESS, TYPE_UNMATCHED
from hil.meters.dlms.security import MeterSecurity

_IMPORT_CERTIFICATE: Final = 6
_EXPORT_CERTIFICATE: Final = 7
_NOTHING: Final = 0
_AUTHENTICATED_AND_ENCRYPTED: Final = 0x6C
"""Requests by bits 2 and 3, replies by 5 and 6."""


def attribute(security: MeterSecurity, index: int) -> bytes | None:
    """The encoded attribute: policy, suite, the meter's system title; None = there is none."""
    policy = _NOTHING if security.ciphering == "none" else _AUTHENTICATED_AND_ENCRYPTED
    return {
        2: axdr.number(Tag.ENUM, policy),
        3: axdr.number(Tag.ENUM, security.suite),
        5: axdr.octets(security.title),
    }.get(index)


def act(security: MeterSecurity, method: int, parameters: bytes) -> tuple[int, bytes]:
    """(action result, encoded return value) of a method; raises AxdrError."""
    if method == _IMPORT_CERTIFICATE:
        certificate = axdr.decode(parameters)[0]
        if not isinstance(certificate, bytes):
            return TYPE_UNMATCHED, b""
        security.certificate = certificate
        return SUCCESS, b""
    if method == _EXPORT_CERTIFICATE:
        if not security.certificate:
            return OTHER_REASON, b""
        return SUCCESS, axdr.octets(security.certificate)
    return DENIED, b""
