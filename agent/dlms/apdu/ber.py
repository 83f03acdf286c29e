"""The few BER elements (ITU-T X.690) of which association APDUs are made."""

from __future__ import annotations

from agent.dlms import axdr
from agent.dlms.errors import AnswerMalformed


def tlv(tag: int, content: bytes) -> bytes:
    """One element; tags of one byte only."""
    return bytes([tag]) + axdr.length(len(content)) + content


def content(data: bytes, at: int) -> tuple[bytes, int]:
    """The content of the BER element at `at`, and where it ends; raises AnswerMalformed."""
    try:
        size, start = axdr.read_length(data, at + 1)
    except axdr.AxdrError as error:
        raise AnswerMalformed(f"BER element at byte {at} of {data.hex()}: {error}") from error
    if start + size > len(data):
        raise AnswerMalformed(f"BER element at byte {at} of {data.hex()} is longer than the answer")
    return data[start : start + size], start + size


def tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of elements that fill `data`; raises AnswerMalformed."""
    fields, at = [], 0
    while at < len(data):
        tag = data[at]
        inner, at = content(data, at)
        fields.append((tag, inner))
    return fields
