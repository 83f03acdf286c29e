"""The DLMS part of the bench: its day of load profile, its formula, what the import brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.bench.dlms_import import HEAVY, loads
from hil.bench.dlms_line import METERS, CountingPort, addresses
from hil.bench.dlms_parse import (
    FIRST_END_UTC_S,
    PERIOD_S,
    ROWS,
    day_apdu,
    day_columns,
    frames_of,
    heard,
    parsed,
)


def test_the_day_that_is_parsed_has_96_rows_with_the_values_that_were_put_in() -> None:
    rows = parsed(day_columns(), day_apdu())
    assert len(rows) == ROWS
    assert [row.end_utc_s for row in rows[:2]] == [FIRST_END_UTC_S, FIRST_END_UTC_S + PERIOD_S]
    assert rows[95].export_wh == 1_000_000 + 7 * 95


def test_the_frames_carry_the_same_answer() -> None:
    frames = frames_of(day_apdu())
    assert len(frames) == 37
    assert heard(frames) == day_apdu()


def test_the_formula_of_a_line_is_the_one_of_the_table() -> None:
    port = CountingPort(str(Path("/nowhere")))
    port.sent, port.heard, port.turnarounds = 200, 155, 4
    assert port.formula_s == pytest.approx(0.570, abs=0.001)
    port.sent, port.heard, port.turnarounds = 300, 319, 5
    assert port.formula_s == pytest.approx(0.895, abs=0.001)


def test_every_meter_of_the_line_has_an_address_of_one_byte() -> None:
    assert len(set(addresses())) == METERS
    assert all(int(address) < 128 for address in addresses())


def test_the_driver_comes_without_what_only_ciphered_meters_need() -> None:
    assert not loads(HEAVY)
    assert loads("agent.dlms.driver")
