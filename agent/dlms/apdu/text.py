"""Any APDU, of either direction, as one line of readable text: for people who look at a trace.

Never raises: what cannot be decoded is shown as hex. Passwords and dedicated
keys are not shown. Source: IEC 62056-5-3, clause 6 and 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.association import association_answer, initiate_response
from agent.dlms.apdu.ber import content, tlvs
from agent.dlms.apdu.general_block import general_block
from agent.dlms.apdu.notification import data_notification
from agent.dlms.apdu.refusal import action_result_name, named, result_name, service_error
from agent.dlms.constants import (
    APPLICATION_CONTEXT_LN_CIPHERED,
    ASSOCIATION_DIAGNOSTICS,
    ASSOCIATION_RESULTS,
    MECHANISM_HLS_GMAC,
    MECHANISM_LLS,
    SERVICE_ERRORS,
    STATE_ERRORS,
    Apdu,
    Conformance,
    Tag,
    obis_text,
)
from agent.dlms.errors import DlmsError
from agent.dlms.load_profile.meter_time import MeterTime

LONGEST: Final = 2000
"""Characters of one text at most."""
_DEEPEST: Final = 8
_HEX_BYTES: Final = 64

OBJECTS: Final = {
    "0.0.1.0.0.255": "clock",
    "0.0.40.0.0.255": "association",
    "0.0.42.0.0.255": "logical device name",
    "0.0.43.1.0.255": "invocation counter",
    "0.0.96.1.0.255": "serial number",
    "0.0.96.10.1.255": "profile status",
    "0.0.97.97.0.255": "error",
    "0.0.98.1.0.255": "monthly profile",
    "0.0.99.98.0.255": "standard log",
    "0.0.99.98.1.255": "fraud log",
    "0.0.99.98.2.255": "control log",
    "0.0.99.98.4.255": "power quality log",
    "1.0.0.4.2.255": "current transformer ratio",
    "1.0.0.4.3.255": "voltage transformer ratio",
    "1.0.1.7.0.255": "import power",
    "1.0.2.7.0.255": "export power",
    "1.0.1.8.0.255": "import energy",
    "1.0.2.8.0.255": "export energy",
    "1.0.3.8.0.255": "import reactive energy",
    "1.0.4.8.0.255": "export reactive energy",
    "1.0.31.7.0.255": "current L1",
    "1.0.32.7.0.255": "voltage L1",
    "1.0.51.7.0.255": "current L2",
    "1.0.52.7.0.255": "voltage L2",
    "1.0.71.7.0.255": "current L3",
    "1.0.72.7.0.255": "voltage L3",
    "1.0.99.1.0.255": "load profile 1",
    "1.0.99.2.0.255": "daily profile",
}
"""Names of IEC 62056-6-1 that meters here have."""

_TYPES: Final = {
    getattr(Tag, name): name.lower().replace("_", "-") for name in vars(Tag) if name.isupper()
}
_APDUS: Final = {
    getattr(Apdu, name): name.lower().replace("_", "-") for name in vars(Apdu) if name.isupper()
}
_GENERAL: Final = (Apdu.GENERAL_GLO_CIPHERING, Apdu.GENERAL_DED_CIPHERING)
_KINDS: Final[dict[int, tuple[str, ...]]] = {
    Apdu.GET_REQUEST: ("normal", "next", "list"),
    Apdu.GET_RESPONSE: ("normal", "block", "list"),
    Apdu.SET_REQUEST: ("normal", "first block", "block", "list", "list, first block"),
    Apdu.SET_RESPONSE: ("normal", "block taken", "last block taken", "last block, list", "list"),
    Apdu.ACTION_REQUEST: ("normal", "next block", "list", "first block", "list block", "block"),
    Apdu.ACTION_RESPONSE: ("normal", "block", "list", "next block"),
}


def apdu_text(apdu: bytes) -> str:
    """One line of at most LONGEST characters."""
    if not apdu:
        return "empty APDU"
    read = _READERS.get(apdu[0])
    if read is None and apdu[0] in _APDUS:
        read = _ciphered if "-ciphering" in _name(apdu) or _name(apdu)[:4] in _PREFIXES else _plain
    try:
        text = f"unknown APDU {_hex(apdu)}" if read is None else read(apdu)
    except (DlmsError, ValueError, IndexError, OverflowError) as error:
        text = f"{_name(apdu)} that cannot be read"
        if apdu[0] not in (Apdu.AARQ, Apdu.INITIATE_REQUEST):
            # Those two may hold a password or a key.
            text += f" ({error}): {_hex(apdu)}"
    # A meter may send control characters, and a trace goes to a terminal.
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def value_text(data: bytes) -> str:
    """An encoded value with its types, and as hex what follows it or cannot be decoded."""
    return _value_and_rest(data, 0)


_PREFIXES: Final = ("glo-", "ded-")


def _name(apdu: bytes) -> str:
    return _APDUS.get(apdu[0], f"APDU {apdu[0]:02x}")


def _hex(data: bytes) -> str:
    text = bytes(data[:_HEX_BYTES]).hex()
    return text if len(data) <= _HEX_BYTES else f"{text}… ({len(data)} bytes)"


def _head(apdu: bytes) -> str:
    kinds = _KINDS[apdu[0]]
    kind = kinds[apdu[1] - 1] if 1 <= apdu[1] <= len(kinds) else f"kind {apdu[1]}"
    return f"{_name(apdu)} {kind} #{apdu[2] & 0x0F}"


def _plain(apdu: bytes) -> str:
    return f"{_name(apdu)} {_hex(apdu[1:])}"


def _request(apdu: bytes) -> str:
    head, kind = _head(apdu), apdu[1]
    if kind == 1:
        target, at = _target(apdu, 3)
        return f"{head} {target}{_parameters(apdu, at)}"
    if apdu[0] == Apdu.GET_REQUEST and kind == 3:
        count, at = axdr.read_length(apdu, 3)
        targets = []
        for _ in range(min(count, len(apdu))):
            target, at = _target(apdu, at)
            if apdu[at]:
                _, end = axdr.decode(apdu, at + 2)
                target, at = f"{target} selector {apdu[at + 1]}", end - 1
            targets.append(target)
            at += 1
        return f"{head} {', '.join(targets)}"
    if kind == 2 and apdu[0] != Apdu.SET_REQUEST:
        return f"{head} after block {int.from_bytes(apdu[3:7], 'big')}"
    return f"{head} {_hex(apdu[3:])}"


def _target(apdu: bytes, at: int) -> tuple[str, int]:
    end = at + 9
    if end > len(apdu):
        raise ValueError("the descriptor ends early")
    name = obis_text(apdu[at + 2 : at + 8])
    known = f" ({OBJECTS[name]})" if name in OBJECTS else ""
    return f"{int.from_bytes(apdu[at : at + 2], 'big')}/{name}/{apdu[at + 8]}{known}", end


def _parameters(apdu: bytes, at: int) -> str:
    if apdu[0] == Apdu.SET_REQUEST:
        selected = f" selector {apdu[at + 1]}" if apdu[at] else ""
        return f"{selected} := {_value_and_rest(apdu, at + (2 if apdu[at] else 1))}"
    if not apdu[at]:
        return ""
    if apdu[0] == Apdu.GET_REQUEST:
        return f" selector {apdu[at + 1]} {_value_and_rest(apdu, at + 2)}"
    return f" with {_value_and_rest(apdu, at + 1)}"


def _response(apdu: bytes) -> str:
    head, kind = _head(apdu), apdu[1]
    if apdu[0] == Apdu.GET_RESPONSE and kind == 1:
        return f"{head} {_result_or_value(apdu, 3)}"
    if apdu[0] == Apdu.GET_RESPONSE and kind == 2:
        last = ", last" if apdu[3] else ""
        number = int.from_bytes(apdu[4:8], "big")
        if apdu[8]:
            return f"{head} {number}{last}: {result_name(apdu[9])}"
        return f"{head} {number}{last}: {_hex(apdu[9:])}"
    if apdu[0] == Apdu.SET_RESPONSE and kind == 1:
        return f"{head} {result_name(apdu[3])}"
    if apdu[0] == Apdu.ACTION_RESPONSE and kind == 1:
        returned = f", {_result_or_value(apdu, 5)}" if len(apdu) > 5 and apdu[4] else ""
        return f"{head} {action_result_name(apdu[3])}{returned}"
    if apdu[0] == Apdu.GET_RESPONSE and kind == 3:
        count, at = axdr.read_length(apdu, 3)
        texts = []
        for _ in range(min(count, len(apdu))):
            if apdu[at]:
                texts.append(result_name(apdu[at + 1]))
                at += 2
            else:
                text, at = _value(apdu, at + 1, 0)
                texts.append(text)
        return f"{head} {', '.join(texts)}"
    return f"{head} {_hex(apdu[3:])}"


def _result_or_value(apdu: bytes, at: int) -> str:
    return result_name(apdu[at + 1]) if apdu[at] else _value_and_rest(apdu, at + 1)


def _value_and_rest(data: bytes, at: int) -> str:
    try:
        text, end = _value(data, at, 0)
    except (axdr.AxdrError, IndexError) as error:
        return f"{_hex(data[at:])} ({error})"
    return f"{text}, then {_hex(data[end:])}" if end < len(data) else text


def _value(data: bytes, at: int, depth: int) -> tuple[str, int]:
    tag = data[at]
    if tag not in (Tag.ARRAY, Tag.STRUCTURE) or depth >= _DEEPEST:
        value, end = axdr.decode(data, at)
        return _leaf(tag, value), end
    count, end = axdr.read_length(data, at + 1)
    texts, size = [], 0
    for _ in range(count):
        if size > LONGEST:
            _, end = axdr.decode(data, at)
            texts.append("…")
            break
        text, end = _value(data, end, depth + 1)
        texts.append(text)
        size += len(text)
    body = ", ".join(texts)
    return (f"[{body}]" if tag == Tag.ARRAY else f"{{{body}}}"), end


def _leaf(tag: int, value: Any) -> str:
    kind = _TYPES.get(tag, f"type {tag}")
    if value is None:
        return "null"
    if not isinstance(value, bytes):
        return f"{kind} {getattr(value, 'text', value)!r}"
    return f"{kind} {_octets(value)}"


def _octets(value: bytes) -> str:
    if len(value) == 6 and value[5] == 0xFF:
        name = obis_text(value)
        return f"{name} ({OBJECTS[name]})" if name in OBJECTS else name
    if len(value) == 12:
        try:
            at_utc_s = MeterTime(0).utc_s(value)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_utc_s))
        except (DlmsError, ValueError, OverflowError):
            return _hex(value)
        # Without a deviation the date-time is the meter's local time, and stays that here.
        return f"{stamp} local" if value[9:11] == b"\x80\x00" else f"{stamp}Z"
    if value and all(0x20 <= byte < 0x7F for byte in value):
        return f"{_hex(value)} {value.decode('ascii')[:_HEX_BYTES]!r}"
    return _hex(value) or "''"


def _associate(apdu: bytes) -> str:
    fields = dict(tlvs(content(apdu, 0)[0]))
    mechanism = {MECHANISM_LLS: "password", MECHANISM_HLS_GMAC: "HLS-GMAC"}.get(
        fields.get(0x8B, b""), fields.get(0x8B, b"").hex() or "no authentication"
    )
    ciphered = fields.get(0xA1, b"").endswith(APPLICATION_CONTEXT_LN_CIPHERED)
    title = f", title {fields[0xA6][2:].hex()}" if 0xA6 in fields else ""
    secret = f", {len(fields[0xAC]) - 2} bytes not shown" if 0xAC in fields else ""
    initiate = fields.get(0xBE, b"")[2:]
    user = ""
    if initiate:
        user = (
            "; initiate-request"
            if initiate[0] == Apdu.INITIATE_REQUEST
            else f"; {apdu_text(initiate)}"
        )
    context = "LN ciphered" if ciphered else "LN"
    return f"aarq {context}, {mechanism}{secret}{title}{user}"


def _associated(apdu: bytes) -> str:
    answer = association_answer(apdu)
    said = named(ASSOCIATION_RESULTS, answer.result)
    why = named(ASSOCIATION_DIAGNOSTICS, answer.diagnostic) if answer.from_user else "by ACSE"
    title = f", title {answer.title.hex()}" if answer.title else ""
    user = f"; {apdu_text(answer.user_information)}" if answer.user_information else ""
    return f"aare {said}, {why}{title}{user}"


def _exception(apdu: bytes) -> str:
    counter = f", expects {int.from_bytes(apdu[3:7], 'big')}" if len(apdu) >= 7 else ""
    return (
        f"exception-response {named(STATE_ERRORS, apdu[1])}, "
        f"{named(SERVICE_ERRORS, apdu[2])}{counter}"
    )


def _notified(apdu: bytes) -> str:
    notification = data_notification(apdu)
    stamp = f" at {_octets(notification.date_time)}" if notification.date_time else ""
    at = 6 + (apdu[5] == Tag.OCTETS) + len(notification.date_time or b"")
    return f"data-notification #{notification.invoke_id}{stamp}: {_value_and_rest(apdu, at)}"


def _ciphered(apdu: bytes) -> str:
    at, title = 1, ""
    if apdu[0] in _GENERAL:
        size, at = axdr.read_length(apdu, 1)
        title, at = f", title {apdu[at : at + size].hex()}", at + size
    size, at = axdr.read_length(apdu, at)
    if size < 5 or at + size > len(apdu):
        raise ValueError(f"{size} bytes are announced, {len(apdu) - at} are there")
    counter = int.from_bytes(apdu[at + 1 : at + 5], "big")
    control = f"security control {apdu[at]:02x}"
    return f"{_name(apdu)}{title}, {control}, counter {counter}, {size - 5} bytes"


def _block(apdu: bytes) -> str:
    block = general_block(apdu)
    last = ", last" if block.last else ""
    return (
        f"general-block-transfer {block.number}{last} (heard {block.acknowledged}, window "
        f"{block.window}): {_hex(block.data)}"
    )


def _initiate(apdu: bytes) -> str:
    return "initiate-request" + (", dedicated key not shown" if apdu[1] else "")


def _initiated(apdu: bytes) -> str:
    agreed = initiate_response(apdu)
    services = ", ".join(
        name.lower().replace("_", "-")
        for name, bit in vars(Conformance).items()
        if name.isupper() and agreed.conformance & bit
    )
    return f"initiate-response {services}; takes {agreed.max_pdu or 'any number of'} bytes"


_READERS: Final[dict[int, Callable[[bytes], str]]] = {
    Apdu.AARQ: _associate,
    Apdu.AARE: _associated,
    Apdu.INITIATE_REQUEST: _initiate,
    Apdu.INITIATE_RESPONSE: _initiated,
    Apdu.EXCEPTION_RESPONSE: _exception,
    Apdu.CONFIRMED_SERVICE_ERROR: service_error,
    Apdu.DATA_NOTIFICATION: _notified,
    Apdu.GENERAL_BLOCK_TRANSFER: _block,
    **dict.fromkeys((Apdu.GET_REQUEST, Apdu.SET_REQUEST, Apdu.ACTION_REQUEST), _request),
    **dict.fromkeys((Apdu.GET_RESPONSE, Apdu.SET_RESPONSE, Apdu.ACTION_RESPONSE), _response),
}
