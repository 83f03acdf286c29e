"""Responders that misbehave because of who else is on the line, or of what came before.

Where a fault of `hil.line.faults` changes one answer, these remember requests
or hold more than one responder. All speak of Modbus RTU read requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest

from ext.checksum import crc16_modbus
from hil.line.faults import dead, exception, flood
from hil.line.responder import Answer, Responder

_COUNT = slice(4, 6)


class TwoMasters:
    """Another master asks `question` right after each of our requests; its answer comes first.

    Both frames are heard on the line. The master breaks the rules of RTU,
    which knows one master only.
    """

    def __init__(self, responder: Responder, question: bytes) -> None:
        self._responder = responder
        self._question = question

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._responder.receive(data)
        if not answers:
            return answers
        return [Answer(self._question), *self._responder.receive(self._question), *answers]


class SameUnitTwice:
    """Two meters with one unit number: both answer, the second `lag_s` after the first.

    Without a lag their frames collide: where they differ the low bit wins.
    """

    def __init__(self, first: Responder, second: Responder, lag_s: float) -> None:
        self._first = first
        self._second = second
        self._lag_s = lag_s

    def receive(self, data: bytes) -> list[Answer]:
        one, other = self._first.receive(data), self._second.receive(data)
        if self._lag_s:
            return one + [replace(a, delay_s=a.delay_s + self._lag_s) for a in other]
        return [
            replace(a, data=bytes(x & y for x, y in zip_longest(a.data, b.data, fillvalue=0xFF)))
            for a, b in zip(one, other, strict=True)
        ]


class Impostor:
    """The meter at `own` also answers for `other`, in the other's name and with its own values."""

    def __init__(self, responder: Responder, own: int, other: int) -> None:
        self._responder = responder
        self._own = own
        self._other = other

    def receive(self, data: bytes) -> list[Answer]:
        if data[:1] != bytes([self._other]):
            return self._responder.receive(data)
        answers = self._responder.receive(_renamed(data, self._own))
        return [replace(answer, data=_renamed(answer.data, self._other)) for answer in answers]


class BusLow:
    """From the first request on the bus hangs low for `for_s`; no meter hears anything then."""

    def __init__(
        self, responder: Responder, for_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._responder = responder
        self._for_s = for_s
        self._monotonic = monotonic
        self._free_s = float("-inf")
        self._begun = False

    def receive(self, data: bytes) -> list[Answer]:
        now_s = self._monotonic()
        if not self._begun:
            self._begun = True
            self._free_s = now_s + self._for_s
            return flood(self._for_s)(data, [])
        return self._responder.receive(data) if now_s >= self._free_s else []


class SecondTryOnly:
    """Answers a request only when it comes for the second time in a row."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._before = b""

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._responder.receive(data)
        if data == self._before:
            self._before = b""
            return answers
        self._before = data
        return []


class Hurried:
    """Needs `gap_s` of rest after an answer; what comes sooner meets `reaction`.

    `reaction` is one of "deaf" (the request is lost), "busy" (exception 6) and
    "reboot" (nothing is answered for `down_s`).
    """

    def __init__(
        self,
        responder: Responder,
        gap_s: float,
        reaction: str,
        down_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._responder = responder
        self._gap_s = gap_s
        self._reaction = reaction
        self._down_s = down_s
        self._monotonic = monotonic
        self._rested_s = float("-inf")
        self._up_s = float("-inf")

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._responder.receive(data)
        now_s = self._monotonic()
        if not answers or now_s < self._up_s:
            return []
        if now_s >= self._rested_s:
            self._rested_s = now_s + self._gap_s
            return answers
        if self._reaction == "reboot":
            self._up_s = now_s + self._down_s
        return (exception(6) if self._reaction == "busy" else dead)(data, answers)


class ShortReadsOnly:
    """Refuses with `code`, or meets with silence (0), a request for more than `most` registers."""

    def __init__(self, responder: Responder, most: int, code: int = 2) -> None:
        self._responder = responder
        self._most = most
        self._code = code

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._responder.receive(data)
        if int.from_bytes(data[_COUNT]) <= self._most:
            return answers
        return exception(self._code)(data, answers) if self._code else []


def _renamed(frame: bytes, unit: int) -> bytes:
    body = bytes([unit]) + frame[1:-2]
    return body + crc16_modbus(body).to_bytes(2, "little")
