"""Numbers that the DLMS/COSEM standards give: tags, classes, units, results and names of objects.

Sources: IEC 62056-5-3 (services, data-access results), IEC 62056-6-1 (OBIS),
IEC 62056-6-2 (interface classes, units). Nothing here is a choice of ours.
"""

from __future__ import annotations

from typing import Final


class Tag:
    """A-XDR type tags of COSEM `Data`."""

    NULL: Final = 0
    ARRAY: Final = 1
    STRUCTURE: Final = 2
    BOOLEAN: Final = 3
    BIT_STRING: Final = 4
    I32: Final = 5
    U32: Final = 6
    OCTETS: Final = 9
    VISIBLE: Final = 10
    UTF8: Final = 12
    BCD: Final = 13
    I8: Final = 15
    I16: Final = 16
    U8: Final = 17
    U16: Final = 18
    COMPACT_ARRAY: Final = 19
    I64: Final = 20
    U64: Final = 21
    ENUM: Final = 22
    F32: Final = 23
    F64: Final = 24
    DATE_TIME: Final = 25
    DATE: Final = 26
    TIME: Final = 27


class Apdu:
    """First byte of an APDU."""

    INITIATE_REQUEST: Final = 0x01
    INITIATE_RESPONSE: Final = 0x08
    CONFIRMED_SERVICE_ERROR: Final = 0x0E
    AARQ: Final = 0x60
    AARE: Final = 0x61
    RLRQ: Final = 0x62
    RLRE: Final = 0x63
    GET_REQUEST: Final = 0xC0
    GET_RESPONSE: Final = 0xC4
    EXCEPTION_RESPONSE: Final = 0xD8


class GetKind:
    """Second byte of a GET request or response."""

    NORMAL: Final = 1
    NEXT: Final = 2
    WITH_DATABLOCK: Final = 2
    WITH_LIST: Final = 3


class ClassId:
    """COSEM interface classes."""

    DATA: Final = 1
    REGISTER: Final = 3
    EXTENDED_REGISTER: Final = 4
    PROFILE_GENERIC: Final = 7
    CLOCK: Final = 8


class Conformance:
    """Bits of the 24-bit conformance block, as a number whose highest bit is bit 0 of the block."""

    BLOCK_TRANSFER_WITH_GET: Final = 1 << (23 - 11)
    MULTIPLE_REFERENCES: Final = 1 << (23 - 14)
    GET: Final = 1 << (23 - 19)
    SELECTIVE_ACCESS: Final = 1 << (23 - 21)


PUBLIC_CLIENT: Final = 16
"""Client SAP that needs no security and sees little."""

APPLICATION_CONTEXT_LN: Final = bytes.fromhex("60857405080101")
"""Object identifier 2.16.756.5.8.1.1: logical names, no ciphering."""
MECHANISM_LLS: Final = bytes.fromhex("60857405080201")
"""Object identifier 2.16.756.5.8.2.1: a password in the clear."""

DATA_ACCESS_RESULTS: Final[dict[int, str]] = {
    0: "success",
    1: "hardware-fault",
    2: "temporary-failure",
    3: "read-write-denied",
    4: "object-undefined",
    9: "object-class-inconsistent",
    11: "object-unavailable",
    12: "type-unmatched",
    13: "scope-of-access-violated",
    14: "data-block-unavailable",
    15: "long-get-aborted",
    16: "no-long-get-in-progress",
    17: "long-set-aborted",
    18: "no-long-set-in-progress",
    19: "data-block-number-invalid",
    250: "other-reason",
}

STATE_ERRORS: Final[dict[int, str]] = {1: "service-not-allowed", 2: "service-unknown"}
SERVICE_ERRORS: Final[dict[int, str]] = {
    1: "operation-not-possible",
    2: "service-not-supported",
    3: "other-reason",
    4: "pdu-too-long",
    5: "deciphering-error",
    6: "invocation-counter-error",
}

ASSOCIATION_RESULTS: Final[dict[int, str]] = {
    0: "accepted",
    1: "rejected-permanent",
    2: "rejected-transient",
}
ASSOCIATION_DIAGNOSTICS: Final[dict[int, str]] = {
    0: "null",
    1: "no-reason-given",
    2: "application-context-name-not-supported",
    3: "calling-AP-title-not-recognized",
    11: "authentication-mechanism-name-not-recognised",
    12: "authentication-mechanism-name-required",
    13: "authentication-failure",
    14: "authentication-required",
}

UNITS: Final[dict[int, str]] = {
    6: "min",
    7: "s",
    8: "degree",
    9: "°C",
    13: "m3",
    27: "W",
    28: "VA",
    29: "var",
    30: "Wh",
    31: "VAh",
    32: "varh",
    33: "A",
    35: "V",
    44: "Hz",
    56: "%",
    70: "dBm",
    255: "",
}
"""Unit codes of `scaler_unit` (IEC 62056-6-2, table of units), those that meters here use."""


def obis(text: str) -> bytes:
    """The six bytes of a logical name such as `1.0.99.1.0.255`; raises ValueError."""
    parts = text.split(".")
    if len(parts) != 6 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        raise ValueError(f"expected six numbers 0-255 with dots between, found {text!r}")
    return bytes(map(int, parts))


def obis_text(name: bytes) -> str:
    """The dotted form of a logical name."""
    return ".".join(map(str, name))
