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
    DONT_CARE: Final = 255


class Apdu:
    """First byte of an APDU."""

    INITIATE_REQUEST: Final = 0x01
    INITIATE_RESPONSE: Final = 0x08
    CONFIRMED_SERVICE_ERROR: Final = 0x0E
    DATA_NOTIFICATION: Final = 0x0F
    GLO_INITIATE_REQUEST: Final = 0x21
    GLO_INITIATE_RESPONSE: Final = 0x28
    GLO_CONFIRMED_SERVICE_ERROR: Final = 0x2E
    DED_CONFIRMED_SERVICE_ERROR: Final = 0x4E
    AARQ: Final = 0x60
    AARE: Final = 0x61
    RLRQ: Final = 0x62
    RLRE: Final = 0x63
    GET_REQUEST: Final = 0xC0
    SET_REQUEST: Final = 0xC1
    ACTION_REQUEST: Final = 0xC3
    GET_RESPONSE: Final = 0xC4
    SET_RESPONSE: Final = 0xC5
    ACTION_RESPONSE: Final = 0xC7
    GLO_GET_REQUEST: Final = 0xC8
    GLO_SET_REQUEST: Final = 0xC9
    GLO_ACTION_REQUEST: Final = 0xCB
    GLO_GET_RESPONSE: Final = 0xCC
    GLO_SET_RESPONSE: Final = 0xCD
    GLO_ACTION_RESPONSE: Final = 0xCF
    DED_GET_REQUEST: Final = 0xD0
    DED_SET_REQUEST: Final = 0xD1
    DED_ACTION_REQUEST: Final = 0xD3
    DED_GET_RESPONSE: Final = 0xD4
    DED_SET_RESPONSE: Final = 0xD5
    DED_ACTION_RESPONSE: Final = 0xD7
    EXCEPTION_RESPONSE: Final = 0xD8
    GENERAL_GLO_CIPHERING: Final = 0xDB
    GENERAL_DED_CIPHERING: Final = 0xDC
    GENERAL_BLOCK_TRANSFER: Final = 0xE0


class GetKind:
    """Second byte of a GET request or response."""

    NORMAL: Final = 1
    NEXT: Final = 2
    WITH_DATABLOCK: Final = 2
    WITH_LIST: Final = 3


class SetKind:
    """Second byte of a SET request or response."""

    NORMAL: Final = 1
    FIRST_DATABLOCK: Final = 2
    DATABLOCK: Final = 3
    BLOCK_TAKEN: Final = 2
    LAST_BLOCK_TAKEN: Final = 3


class ActionKind:
    """Second byte of an ACTION request or response."""

    NORMAL: Final = 1
    NEXT_BLOCK: Final = 2
    WITH_BLOCK: Final = 2
    FIRST_BLOCK: Final = 4
    BLOCK_TAKEN: Final = 4
    BLOCK: Final = 6


class SecurityControl:
    """Bits of the security control byte; the low four bits are the security suite."""

    AUTHENTICATED: Final = 0x10
    ENCRYPTED: Final = 0x20
    BROADCAST_KEY: Final = 0x40
    COMPRESSED: Final = 0x80
    SUITE: Final = 0x0F


class ClassId:
    """COSEM interface classes."""

    DATA: Final = 1
    REGISTER: Final = 3
    EXTENDED_REGISTER: Final = 4
    PROFILE_GENERIC: Final = 7
    CLOCK: Final = 8
    ASSOCIATION: Final = 15


class Conformance:
    """Bits of the 24-bit conformance block, as a number whose highest bit is bit 0 of the block."""

    GENERAL_PROTECTION: Final = 1 << (23 - 1)
    GENERAL_BLOCK_TRANSFER: Final = 1 << (23 - 2)
    BLOCK_TRANSFER_WITH_GET: Final = 1 << (23 - 11)
    BLOCK_TRANSFER_WITH_SET: Final = 1 << (23 - 12)
    BLOCK_TRANSFER_WITH_ACTION: Final = 1 << (23 - 13)
    MULTIPLE_REFERENCES: Final = 1 << (23 - 14)
    GET: Final = 1 << (23 - 19)
    SET: Final = 1 << (23 - 20)
    SELECTIVE_ACCESS: Final = 1 << (23 - 21)
    ACTION: Final = 1 << (23 - 23)


PUBLIC_CLIENT: Final = 16
"""Client SAP that needs no security and sees little."""

APPLICATION_CONTEXT_LN: Final = bytes.fromhex("60857405080101")
"""Object identifier 2.16.756.5.8.1.1: logical names, no ciphering."""
APPLICATION_CONTEXT_LN_CIPHERED: Final = bytes.fromhex("60857405080103")
"""Object identifier 2.16.756.5.8.1.3: logical names, ciphered APDUs may come."""
MECHANISM_LLS: Final = bytes.fromhex("60857405080201")
"""Object identifier 2.16.756.5.8.2.1: a password in the clear."""
MECHANISM_HLS_GMAC: Final = bytes.fromhex("60857405080205")
"""Object identifier 2.16.756.5.8.2.5: each side proves its keys by a GMAC of a challenge."""
CURRENT_ASSOCIATION: Final = bytes([0, 0, 40, 0, 0, 255])
"""Logical name of the association in which it is asked for."""

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

ACTION_RESULTS: Final[dict[int, str]] = DATA_ACCESS_RESULTS | {
    15: "long-action-aborted",
    16: "no-long-action-in-progress",
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
DECIPHERING_ERROR: Final = 5
INVOCATION_COUNTER_ERROR: Final = 6
"""Followed by the counter that the meter expects, 4 bytes."""

CONFIRMED_SERVICES: Final[dict[int, str]] = {
    1: "initiate",
    2: "get-status",
    3: "get-name-list",
    5: "read",
    6: "write",
}
CONFIRMED_SERVICE_ERRORS: Final[dict[int, tuple[str, dict[int, str]]]] = {
    0: (
        "application-reference",
        {
            0: "other",
            1: "time-elapsed",
            2: "application-unreachable",
            3: "application-reference-invalid",
            4: "application-context-unsupported",
            5: "provider-communication-error",
            6: "deciphering-error",
        },
    ),
    1: (
        "hardware-resource",
        {
            0: "other",
            1: "memory-unavailable",
            2: "processor-resource-unavailable",
            3: "mass-storage-unavailable",
            4: "other-resource-unavailable",
        },
    ),
    2: (
        "vde-state-error",
        {
            0: "other",
            1: "no-dlms-context",
            2: "loading-data-set",
            3: "status-nochange",
            4: "status-inoperable",
        },
    ),
    3: ("service", {0: "other", 1: "pdu-size", 2: "service-unsupported"}),
    4: (
        "definition",
        {
            0: "other",
            1: "object-undefined",
            2: "object-class-inconsistent",
            3: "object-attribute-inconsistent",
        },
    ),
    5: (
        "access",
        {
            0: "other",
            1: "scope-of-access-violated",
            2: "object-access-violated",
            3: "hardware-fault",
            4: "object-unavailable",
        },
    ),
    6: (
        "initiate",
        {
            0: "other",
            1: "dlms-version-too-low",
            2: "incompatible-conformance",
            3: "pdu-size-too-short",
            4: "refused-by-the-vde-handler",
        },
    ),
    9: (
        "task",
        {
            0: "other",
            1: "no-remote-control",
            2: "ti-stopped",
            3: "ti-running",
            4: "ti-unusable",
        },
    ),
}
"""Kinds of service error and what each of their codes says."""

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
    4: "calling-AP-invocation-identifier-not-recognized",
    5: "calling-AE-qualifier-not-recognized",
    6: "calling-AE-invocation-identifier-not-recognized",
    7: "called-AP-title-not-recognized",
    8: "called-AP-invocation-identifier-not-recognized",
    9: "called-AE-qualifier-not-recognized",
    10: "called-AE-invocation-identifier-not-recognized",
    11: "authentication-mechanism-name-not-recognised",
    12: "authentication-mechanism-name-required",
    13: "authentication-failure",
    14: "authentication-required",
}
AUTHENTICATION_FAILURE: Final = 13
AUTHENTICATION_REQUIRED: Final = 14
"""With result `accepted`: the meter waits for the second half of an HLS authentication."""
PROVIDER_DIAGNOSTICS: Final[dict[int, str]] = {
    0: "null",
    1: "no-reason-given",
    2: "no-common-acse-version",
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
