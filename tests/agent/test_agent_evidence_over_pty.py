"""What meters do to their counters, from a simulated meter on a real PTY to the closed interval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.driver import CounterLimits
from agent.interval.sampled import SampledMeter
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.profile import shipped
from agent.store.rows import MeterRows
from hil.line.pty import PtyLine, served
from hil.meters.faces import AllOnes, Exchanged, Frozen, Jumped, Reset, RollsOver, Running
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Shown
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
IMPORT = SAMPLED_SCHEMA.index("import_wh")
RAW = SAMPLED_SCHEMA.index("raw_import_wh")
MODEL = "abb_b23_b24"
"""Counts in steps of 10 Wh, fills in ones where it has no value, and tells its serial number."""
MODULUS = 100_000_000
LIMITS = CounterLimits({"import_wh": MODULUS}, most_per_hour=50_000)
STEADY_W = 3_600.0
"""1 Wh a second."""


@dataclass
class HandClock:
    """A clock that shows what the test says."""

    utc_s: float = float(T0)

    def now_utc_s(self) -> float:
        return self.utc_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.utc_s


@dataclass
class Site:
    """A sampled meter behind a PTY, read at the instants that the test names."""

    clock: HandClock
    meter: SampledMeter

    def read_every(self, step_s: float, until_utc_s: float) -> list[MeterRows]:
        groups = []
        while self.clock.utc_s <= until_utc_s:
            groups += self.meter.read()
            groups += self.meter.identify()
            self.clock.utc_s += step_s
        return groups


@contextmanager
def site(folder: Path, clock: HandClock, face: Shown, *, tells: bool = True) -> Iterator[Site]:
    bus = ModbusBus({1: ModbusMeter(MODEL, face, tells_identity=tells)}, clock)
    line = PtyLine(folder / "line", bus, baud=19200, paced=False)
    with served(line), SerialPort(str(line.link), 19200) as port:
        driver = ModbusDriver.on_port(port, 1, shipped(MODEL), clock)
        yield Site(
            clock,
            SampledMeter(
                "m1",
                driver,
                interval_s=S,
                recover_s=96 * S,
                now_utc_s=clock.utc_s,
                recalled=None,
                limits=LIMITS,
            ),
        )


def values_of(groups: list[MeterRows]) -> dict[int, tuple[int, ...]]:
    """Values by the number of the interval, the first one 1."""
    return {(end - T0) // S: tuple(values) for group in groups for end, values in group.rows}


def flags_of(groups: list[MeterRows]) -> dict[int, Quality]:
    return {number: Quality(values[-1]) for number, values in values_of(groups).items()}


def test_a_rollover_comes_through_exactly(tmp_path: Path) -> None:
    clock = HandClock()
    face = RollsOver(Running(T0, STEADY_W, MODULUS - 1200), MODULUS)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    values, flags = values_of(groups), flags_of(groups)
    assert [values[n][IMPORT] for n in (1, 2, 3)] == [MODULUS - 300, 600, 1500]
    assert [bool(flags[n] & Quality.ROLLOVER) for n in (1, 2, 3)] == [False, True, False]
    assert not any(flag & Quality.COUNTER_RESET for flag in flags.values())
    assert all(values[n][RAW] < MODULUS for n in values)


def test_a_reset_of_a_meter_that_tells_its_serial_number_is_flagged(tmp_path: Path) -> None:
    clock = HandClock()
    face = Reset(Running(T0, STEADY_W), at_utc_s=T0 + S + 450)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    flags = flags_of(groups)
    assert {group.epoch.serial for group in groups} == {"21000035"}
    assert [bool(flags[n] & Quality.COUNTER_RESET) for n in (1, 2, 3)] == [False, True, False]
    assert values_of(groups)[3][IMPORT] == 1350


def test_a_reset_of_a_meter_that_tells_none_opens_an_epoch(tmp_path: Path) -> None:
    clock = HandClock()
    face = Reset(Running(T0, STEADY_W), at_utc_s=T0 + S + 450)
    with site(tmp_path, clock, face, tells=False) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    assert [(group.epoch.serial, *values_of([group])) for group in groups] == [
        ("", 1),
        ("?2", 2),
        ("?2", 3),
    ]
    assert flags_of(groups)[2] & Quality.COUNTER_RESET


def test_an_exchange_between_two_edges_is_found_without_waiting_for_the_next(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    new = Running(T0, STEADY_W, import_wh=50, serial="31000099")
    face = Exchanged(Running(T0, STEADY_W), new, T0 + S + 450, clock)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    assert [(group.epoch.serial, *values_of([group])) for group in groups] == [
        ("21000035", 1),
        ("31000099", 2),
        ("31000099", 3),
    ]
    flags = flags_of(groups)
    assert flags[2] & Quality.METER_EXCHANGED
    assert flags[2] & Quality.PARTIAL
    assert not flags[3] & Quality.METER_EXCHANGED


def test_counters_that_stand_still_are_flagged_until_they_run_again(tmp_path: Path) -> None:
    clock = HandClock()
    face = Frozen(Running(T0, STEADY_W), T0 + S, T0 + 3 * S + 30)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 4 * S + 60)
    flags = flags_of(groups)
    assert [bool(flags[n] & Quality.FROZEN) for n in (1, 2, 3, 4)] == [False, True, True, False]


def test_ones_in_a_counter_are_no_value_and_never_zero(tmp_path: Path) -> None:
    clock = HandClock()
    face = AllOnes(Running(T0, STEADY_W), ("import_wh",), T0 + S + 100, T0 + S + 400)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    values, flags = values_of(groups), flags_of(groups)
    assert [values[n][IMPORT] for n in (1, 2, 3)] == [1_000_900, 1_001_800, 1_002_700]
    assert [bool(flags[n] & Quality.NO_VALUE) for n in (1, 2, 3)] == [False, True, False]


def test_ones_for_hours_leave_missing_intervals_that_say_why(tmp_path: Path) -> None:
    clock = HandClock()
    face = AllOnes(Running(T0, STEADY_W), ("import_wh",), T0 + S + 100, T0 + 3 * S + 100)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 5 * S + 60)
    flags = flags_of(groups)
    missing = {number for number, flag in flags.items() if flag & Quality.NO_DATA}
    assert missing == {2, 3}
    assert all(flags[number] & Quality.NO_VALUE for number in missing)
    assert values_of(groups)[5][IMPORT] == 1_004_500


def test_a_jump_that_stays_is_what_the_meter_shows_and_flagged(tmp_path: Path) -> None:
    clock = HandClock()
    face = Jumped(Running(T0, STEADY_W), 9_113_000, T0 + S + 90)
    with site(tmp_path, clock, face) as there:
        groups = there.read_every(60, T0 + 3 * S + 60)
    values, flags = values_of(groups), flags_of(groups)
    assert [values[n][IMPORT] for n in (1, 2, 3)] == [1_000_900, 10_114_800, 10_115_700]
    assert [bool(flags[n] & Quality.OUT_OF_RANGE) for n in (1, 2, 3)] == [False, True, False]
    assert {group.epoch.serial for group in groups} == {"21000035"}
