"""The simulated meter's clock: how far it is off, and SET, against frames made by hand."""

from __future__ import annotations

from agent.dlms import axdr
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.clock import MeterClock, Zone
from hil.meters.dlms.hdlc import Ear, build
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.steady import Steady

_NOW_UTC_S = 1_750_000_000
_AARQ = bytes.fromhex("601da109060760857405080101be10040e01000000065f1f0400000018ffff")
_CLOCK = bytes.fromhex("0008000001 0000ff0200".replace(" ", ""))


class _Now:
    def now_utc_s(self) -> float:
        return _NOW_UTC_S


class _Client:
    def __init__(self, meter: DlmsMeter) -> None:
        self._bus = DlmsBus({"1/17": meter}, _Now())
        self._sent = 0
        self._frame(0x93, b"")
        self.say(_AARQ)

    def _frame(self, control: int, payload: bytes) -> bytes:
        (answer,) = self._bus.receive(build(b"\x02\x23", b"\x03", control, payload))
        (heard,) = Ear().hear(answer.data)
        return heard.payload

    def say(self, apdu: bytes) -> bytes:
        number, self._sent = self._sent, self._sent + 1
        return self._frame(number << 5 | 0x10 | number << 1, b"\xe6\xe6\x00" + apdu)[3:]

    def clock(self) -> bytes:
        return self.say(b"\xc0\x01\xc1" + _CLOCK)

    def set_clock(self, value: bytes) -> bytes:
        return self.say(b"\xc1\x01\xc1" + _CLOCK + value)


def _shown(utc_s: int) -> bytes:
    return b"\xc4\x01\xc1\x00" + axdr.octets(Zone(60).date_time(utc_s))


def _meter(settable: bool) -> DlmsMeter:
    return DlmsMeter(Steady("D0000017"), password=None, clock=MeterClock(90.0), settable=settable)


def test_a_clock_that_is_ahead_tells_its_own_time_until_it_is_set() -> None:
    client = _Client(_meter(settable=True))
    assert client.clock() == _shown(_NOW_UTC_S + 90)
    assert client.set_clock(axdr.octets(Zone(60).date_time(_NOW_UTC_S))) == b"\xc5\x01\xc1\x00"
    assert client.clock() == _shown(_NOW_UTC_S)


def test_what_is_no_time_leaves_the_clock_alone() -> None:
    client = _Client(_meter(settable=True))
    assert client.set_clock(axdr.octets(b"\x07\xe9")) == b"\xc5\x01\xc1\x0c"
    assert client.clock() == _shown(_NOW_UTC_S + 90)


def test_a_meter_that_does_not_offer_set_knows_no_such_service() -> None:
    assert _Client(_meter(settable=False)).set_clock(axdr.NULL) == b"\xd8\x02\x02"
