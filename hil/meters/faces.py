"""Faces that do what real meters do to a counter: run, roll over, fall to zero, stand still.

Each wraps another face and changes what it shows from some instant on, so that
they can be put over each other. A `Day` of a town can be wrapped as well as a
steady face. The clock of `Exchanged` says which of two meters is there now,
because a serial number is asked without an instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hil.meters.shown import Gauges, Recorded, Registers, Shown

ALL_ONES: Final = 1 << 80
"""A counter that no integer register holds: the meter fills its registers with ones instead."""


class ShowsUtc(Protocol):
    """The part of a clock that `Exchanged` needs."""

    def now_utc_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Running:
    """A meter at constant power since an instant. Wh, varh, V, W; it keeps no profile."""

    since_utc_s: float
    power_w: float = 3_600.0
    import_wh: int = 1_000_000
    export_wh: int = 0
    import_varh: int = 0
    voltage_v: float = 230.0
    serial: str = "21000035"

    def registers(self, at_utc_s: float) -> Registers:
        counted_wh = int(abs(self.power_w) * (at_utc_s - self.since_utc_s) / 3600)
        if self.power_w < 0:
            return Registers(self.import_wh, self.export_wh + counted_wh, self.import_varh)
        return Registers(self.import_wh + counted_wh, self.export_wh, self.import_varh)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(self.voltage_v, abs(self.power_w) / self.voltage_v, self.power_w, 50.0)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        return ()


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """Another face with other counters; serial number and gauges stay."""

    face: Shown

    @property
    def serial(self) -> str:
        return self.face.serial

    def registers(self, at_utc_s: float) -> Registers:
        return self._counters(self.face.registers(at_utc_s), at_utc_s)

    def gauges(self, at_utc_s: float) -> Gauges:
        return self.face.gauges(at_utc_s)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        rows = []
        for row in self.face.recorded(first_end_utc_s, last_end_utc_s):
            counted = Registers(row.import_wh, row.export_wh, row.import_varh)
            shown = self._counters(counted, row.end_utc_s)
            rows.append(
                replace(
                    row,
                    import_wh=shown.import_wh,
                    export_wh=shown.export_wh,
                    import_varh=shown.import_varh,
                )
            )
        return rows

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        """What the meter shows where the face beneath has counted so much."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RollsOver(_Wrapped):
    """Its counters begin again at 0 when they reach `modulus` (Wh, varh)."""

    modulus: int = 1_000_000_000

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        return Registers(
            counted.import_wh % self.modulus,
            counted.export_wh % self.modulus,
            counted.import_varh % self.modulus,
        )


@dataclass(frozen=True, slots=True)
class Reset(_Wrapped):
    """Its counters are set to 0 at `at_utc_s` and go on from there."""

    at_utc_s: float = 0.0

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        if at_utc_s < self.at_utc_s:
            return counted
        then = self.face.registers(self.at_utc_s)
        return Registers(
            counted.import_wh - then.import_wh,
            counted.export_wh - then.export_wh,
            counted.import_varh - then.import_varh,
        )


@dataclass(frozen=True, slots=True)
class Frozen(_Wrapped):
    """Its counters stand still from `from_utc_s` until `until_utc_s`; its gauges go on.

    Afterwards they show what the face beneath has counted meanwhile.
    """

    from_utc_s: float = 0.0
    until_utc_s: float = float("inf")

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        if self.from_utc_s <= at_utc_s < self.until_utc_s:
            return self.face.registers(self.from_utc_s)
        return counted


@dataclass(frozen=True, slots=True)
class Jumped(_Wrapped):
    """Its counter of imports shows `by_wh` more from `from_utc_s` until `until_utc_s`."""

    by_wh: int = 9_113_000
    from_utc_s: float = 0.0
    until_utc_s: float = float("inf")

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        if not self.from_utc_s <= at_utc_s < self.until_utc_s:
            return counted
        return replace(counted, import_wh=counted.import_wh + self.by_wh)


@dataclass(frozen=True, slots=True)
class AllOnes(_Wrapped):
    """Its counters of `names` read as all ones from `from_utc_s` until `until_utc_s`.

    Only an integer register can; a float one shows a number beyond all limits.
    """

    names: tuple[str, ...] = ("import_wh",)
    from_utc_s: float = 0.0
    until_utc_s: float = float("inf")

    def _counters(self, counted: Registers, at_utc_s: float) -> Registers:
        if not self.from_utc_s <= at_utc_s < self.until_utc_s:
            return counted
        return replace(counted, **dict.fromkeys(self.names, ALL_ONES))


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One meter until `at_utc_s`, another one with another serial number from then on."""

    before: Shown
    after: Shown
    at_utc_s: float
    clock: ShowsUtc

    @property
    def serial(self) -> str:
        return self._at(self.clock.now_utc_s()).serial

    def registers(self, at_utc_s: float) -> Registers:
        return self._at(at_utc_s).registers(at_utc_s)

    def gauges(self, at_utc_s: float) -> Gauges:
        return self._at(at_utc_s).gauges(at_utc_s)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        """The present meter's rows: the other one took its own along."""
        return self._at(self.clock.now_utc_s()).recorded(first_end_utc_s, last_end_utc_s)

    def _at(self, at_utc_s: float) -> Shown:
        return self.before if at_utc_s < self.at_utc_s else self.after
