"""A meter's clock: how far it is ahead, and setting it within the limits of the meter class.

A read is as exact as the meter's date-time (a second, hundredths where it has
them) and half the transaction. Source: IEC 62056-6-2, class 8: attribute 2,
method 6 (shift_time, -900 to 900 s).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.client import Client
from agent.dlms.constants import Tag
from agent.dlms.errors import AnswerMalformed, DlmsError
from agent.dlms.load_profile.meter_time import MeterTime, untrusted
from agent.dlms.meter_class import ClockSetting
from agent.driver import ClockReading, MeterRefused
from wire.quality import Quality

if TYPE_CHECKING:
    from wire.clock import Clock

log = logging.getLogger(__name__)

_SHIFT_TIME: Final = 6
_MOST_SHIFT_S: Final = 900


class ClockNotSet(DlmsError, MeterRefused):
    """The meter's clock was left as it is; the message says why."""


class MeterClock:
    """The clock of one meter."""

    def __init__(
        self, attribute: Attribute, setting: ClockSetting, time: MeterTime, clock: Clock, meter: str
    ) -> None:
        self._attribute = attribute
        self._setting = setting
        self._time = time
        self._clock = clock
        self._meter = meter

    def read(self, client: Client) -> ClockReading:
        """The meter's clock beside ours, by one GET; raises DlmsError."""
        return self._read(client)[0]

    def check_allowed(self) -> None:
        """Raises ClockNotSet if the class forbids to set it: no need to ask the meter."""
        if self._setting.how == "never":
            raise self._not_set('its class says clock.set = "never"')

    def set(self, client: Client, period_s: int) -> ClockReading:
        """Set it to ours; how it stood before. Raises ClockNotSet, DlmsError.

        Neither clock is within `edge_s` of an interval's edge, and none lies
        between the two, so no row is left out or written twice.
        """
        self.check_allowed()
        before, octets = self._read(client)
        self._check(before, period_s)
        if self._setting.how == "shift":
            self._shift(client, before.ahead_ms)
        else:
            now_utc_s = round(self._clock.now_utc_s())
            client.set(self._attribute, axdr.octets(self._time.like(octets, now_utc_s)))
        after = self.read(client)
        if abs(after.ahead_ms) >= abs(before.ahead_ms):
            raise self._not_set(
                f"the meter accepted it and is {after.ahead_ms} ms ahead, was {before.ahead_ms} ms"
            )
        log.warning(
            "%s: clock set, was %d ms ahead, is %d ms ahead",
            self._meter,
            before.ahead_ms,
            after.ahead_ms,
        )
        return before

    def _shift(self, client: Client, ahead_ms: int) -> None:
        method = Method(self._attribute.class_id, self._attribute.name, _SHIFT_TIME)
        client.act(method, axdr.number(Tag.I16, -round(ahead_ms / 1000)))

    def _check(self, reading: ClockReading, period_s: int) -> None:
        limits = self._setting
        off_s = abs(reading.ahead_ms) / 1000
        most_s = min(limits.most_s, _MOST_SHIFT_S) if limits.how == "shift" else limits.most_s
        if off_s < limits.least_s:
            raise self._not_set(f"it is off by {off_s:g} s, less than {limits.least_s} s")
        if off_s > most_s:
            raise self._not_set(
                f"it is off by {off_s:g} s, more than the {most_s} s that its class allows; "
                "find out why, and set it on site"
            )
        ours_s = reading.at_utc_ms / 1000
        earlier_s, later_s = sorted((ours_s, ours_s + reading.ahead_ms / 1000))
        interval = (earlier_s - limits.edge_s) // period_s
        if interval != (later_s + limits.edge_s) // period_s:
            raise self._not_set(
                f"an interval's edge is between the meter's clock and ours, or within "
                f"{limits.edge_s} s of one; try again in the middle of an interval"
            )

    def _read(self, client: Client) -> tuple[ClockReading, bytes]:
        began_utc_s = self._clock.now_utc_s()
        value = client.get(self._attribute)
        middle_ms = round((began_utc_s + self._clock.now_utc_s()) * 500)
        octets = self._checked(value)
        flags = int(Quality.CLOCK_UNTRUSTED) if untrusted(octets) else 0
        return ClockReading(middle_ms, self._time.utc_ms(octets) - middle_ms, flags), octets

    def _checked(self, value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != 12:
            raise AnswerMalformed(
                f"{self._meter}: expected the clock {self._attribute} as a date-time of 12 bytes, "
                f"came {value!r}"
            )
        return value

    def _not_set(self, why: str) -> ClockNotSet:
        return ClockNotSet(f"{self._meter}: the clock was not set: {why}")
