"""Simulated DLMS meters on one line, each behind its own HDLC address."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hil.line.responder import Answer
from hil.meters.dlms.application import Application, OnRead, TrueClock
from hil.meters.dlms.hdlc import Ear, Station
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.services import SERVICE_UNKNOWN

_LLC_TO_METER = b"\xe6\xe6\x00"
_LLC_TO_CLIENT = b"\xe6\xe7\x00"


class DlmsBus:
    """All DLMS meters of one line, by server address (`logical/physical` or `logical`)."""

    def __init__(
        self,
        meters: Mapping[str, DlmsMeter],
        clock: TrueClock,
        reaction_s: float = 0.0,
        *,
        on_read: OnRead | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reaction_s` is what each meter takes from a request's last byte to its answer.

        `now_s` is the real time by which silent links are dropped.
        """
        self._reaction_s = reaction_s
        self._ear = Ear()
        self._stations: dict[bytes, Station] = {}
        for address, meter in meters.items():
            application = Application(meter, clock, on_read)
            station = Station(
                _with_llc(application),
                application.reset,
                longest_info=meter.longest_info,
                window=meter.window,
                client_window=meter.client_window,
                deaf_to_others=meter.deaf_to_others,
                inactivity_s=meter.inactivity_s,
                quirks=meter.quirks,
                now_s=now_s,
            )
            for form in addresses(address):
                self._stations[form] = station

    def receive(self, data: bytes) -> list[Answer]:
        """Answers to the frames that `data` completes."""
        answers = []
        for heard in self._ear.hear(data):
            station = self._stations.get(heard.to)
            if station is not None:
                sent = station.receive(heard)
                if sent:
                    answers.append(Answer(sent, self._reaction_s))
        return answers


def _with_llc(application: Application) -> Callable[[int, bytes], list[bytes]]:
    def serve(sap: int, request: bytes) -> list[bytes]:
        if request[:3] != _LLC_TO_METER:
            return [_LLC_TO_CLIENT + SERVICE_UNKNOWN]
        return [_LLC_TO_CLIENT + apdu for apdu in application.serve(sap, request[3:])]

    return serve


def addresses(text: str) -> list[bytes]:
    """The forms in which a meter hears its address."""
    numbers = [int(part) for part in text.split("/")]
    if len(numbers) == 1:
        return [bytes([numbers[0] * 2 + 1])]
    upper, lower = numbers
    four = bytes([upper >> 7 << 1, upper % 128 * 2, lower >> 7 << 1, lower % 128 * 2 + 1])
    if max(numbers) > 127:
        return [four]
    return [bytes([upper * 2, lower * 2 + 1]), four]
