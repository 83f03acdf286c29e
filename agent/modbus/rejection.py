"""Why bytes on a Modbus line are not the answer that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from agent.modbus.request import REQUEST_LENGTH, ReadRequest, is_question
from ext.checksum import crc16_modbus

Reason = Literal[
    "bad_crc",
    "other_unit",
    "other_function",
    "other_count",
    "other_master",
    "echo",
    "late",
    "noise",
]

_EXCEPTION_LENGTH: Final = 5


def sort_out(data: bytes, unit: int, asked: ReadRequest | None) -> Iterator[tuple[Reason, bytes]]:
    """All of `data`, piece by piece, each with the reason why it is no answer of `unit`."""
    sent = asked.frame if asked else b""
    at = noise_from = 0
    while at < len(data):
        reason, length = _recognise(data, at, unit, asked, sent)
        if reason != "noise":
            if at > noise_from:
                yield "noise", data[noise_from:at]
            yield reason, data[at : at + length]
            noise_from = at + length
        at += length
    if noise_from < len(data):
        yield "noise", data[noise_from:]


def _recognise(
    data: bytes, at: int, unit: int, asked: ReadRequest | None, sent: bytes
) -> tuple[Reason, int]:
    """What begins at `at`, and its length."""
    if sent and data.startswith(sent, at):
        return "echo", len(sent)
    left = len(data) - at
    if left < _EXCEPTION_LENGTH or not 1 <= data[at] <= 247:
        return "noise", 1
    if is_question(data[at : at + REQUEST_LENGTH]):
        return "other_master", REQUEST_LENGTH
    length = _EXCEPTION_LENGTH if data[at + 1] & 0x80 else 5 + data[at + 2]
    if length <= left and crc16_modbus(data[at : at + length]) == 0:
        return _misfit(data, at, unit, asked), length
    if asked is not None and data[at] == unit:
        answered = data[at + 1] == asked.function and data[at + 2] == 2 * asked.count
        if answered or data[at + 1] == asked.function | 0x80:
            return "bad_crc", min(length, left)
    return "noise", 1


def _misfit(data: bytes, at: int, unit: int, asked: ReadRequest | None) -> Reason:
    """Why the sound frame at `at` is not the answer."""
    if data[at] != unit:
        return "other_unit"
    if asked is None:
        return "late"
    if data[at + 1] & 0x7F != asked.function:
        return "other_function"
    if not data[at + 1] & 0x80 and data[at + 2] != 2 * asked.count:
        return "other_count"
    return "late"
