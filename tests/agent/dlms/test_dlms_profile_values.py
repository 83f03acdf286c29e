"""What the cells of a load profile's rows become: flags, values, ratios, summer time, arrays."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.errors import MeterDiffers
from agent.dlms.load_profile.scaling import Transformers
from tests.agent.dlms.plain_meter import (
    CURRENT,
    EXPORT,
    IMPORT,
    PERIOD_S,
    REACTIVE,
    VOLTAGE,
    PlainMeter,
)
from tests.agent.dlms.test_dlms_profile import (
    CLASS,
    EDGE,
    PROFILE,
    a_driver,
    a_meter,
    read,
    written,
)
from wire.quality import Quality


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        (0x82, Quality.POWER_FAIL | Quality.CLOCK_UNTRUSTED),
        (axdr.number(18, 0x0180), Quality.POWER_FAIL | Quality.PARTIAL),
        (axdr.number(6, 0x80000004), Quality.PARTIAL | Quality.COUNTER_RESET),
        (axdr.bits("0000000110000000"), Quality.POWER_FAIL | Quality.PARTIAL),
        (axdr.octets(b"\x01\x02"), Quality.PARTIAL | Quality.CLOCK_UNTRUSTED),
        (None, Quality(0)),
    ],
)
def test_a_status_of_any_width_becomes_quality_flags(status, flags):
    meter = a_meter(3)
    meter.rows[-1].status = status
    wide = ((8, int(Quality.PARTIAL)), (31, int(Quality.COUNTER_RESET)))
    (row,) = a_driver(meter, wide_status=wide).profile(EDGE, EDGE)
    assert row.flags == PROFILE | flags


def test_a_value_that_is_left_out_is_missing_where_the_class_says_so():
    meter = a_meter(3)
    meter.rows[-1].values[3] = None
    assert a_driver(meter).profile(EDGE, EDGE)[0].voltage_dv == meter.rows[-2].values[3]
    (row,) = a_driver(meter, null_is_previous=False).profile(EDGE, EDGE)
    assert row.voltage_dv is None


@pytest.mark.parametrize("habit", ["", "bounds without deviation"])
def test_local_summer_time_without_deviation_is_told_by_the_status_bit(habit):
    meter = a_meter(40, habit, deviation_min=-0x8000, summer=True)
    first = EDGE - 9 * PERIOD_S
    assert read(a_driver(meter).profile(first, EDGE)) == written(meter.rows, first, EDGE)


def test_ratios_are_applied_exactly_to_secondary_values():
    meter = a_meter(2)
    ratios = Transformers(current=Fraction(250, 5), voltage=Fraction(20000, 110))
    (row,) = a_driver(meter, side="secondary", transformers=ratios).profile(EDGE, EDGE)
    raw = meter.rows[-1].values
    assert row.import_wh == (raw[0] * 100000 + 5) // 11  # 50 * 20000 / 110, halves up
    assert row.current_ca == raw[4] * 50
    with pytest.raises(ValueError, match="primary"):
        a_driver(meter, transformers=ratios)


@given(
    raw=st.integers(0, 2**64 - 1),
    scaler=st.integers(-6, 6),
    ratio=st.fractions(Fraction(1, 50), 5000, max_denominator=200),
)
@settings(max_examples=60, deadline=None)
def test_a_64_bit_energy_loses_nothing_to_scaler_and_ratio(raw, scaler, ratio):
    meter = a_meter(1)
    meter.rows[0].values[0] = raw >> 1
    meter.scalers[IMPORT[1]] = (scaler, 30)
    driver = a_driver(meter, side="secondary", transformers=Transformers(current=ratio))
    (row,) = driver.profile(EDGE, EDGE)
    assert abs(row.import_wh - (raw >> 1) * Fraction(10) ** scaler * ratio) <= Fraction(1, 2)


def test_the_names_of_the_columns_are_those_of_the_class():
    wanted = {quantity.attributes[0].name for quantity in CLASS.profile.columns.values()}
    assert wanted == {name for _, name in (IMPORT, EXPORT, REACTIVE, VOLTAGE, CURRENT)}


def test_rows_may_come_as_a_compact_array():
    meter = a_meter(30)

    class Compact(PlainMeter):
        def encoded(self, rows):
            contents = b"".join(
                b"\x0c"
                + self.octets(row.stamp_utc_s)
                + bytes([row.status])
                + b"".join(value.to_bytes(8, "big") for value in row.values)
                for row in rows
            )
            layout = bytes([2, 7, 9, 17, 20, 20, 20, 20, 20])
            return bytes([19]) + layout + axdr.length(len(contents)) + contents

    first = EDGE - 20 * PERIOD_S
    compact = Compact(meter.clock, meter.rows)
    assert read(a_driver(compact).profile(first, EDGE)) == written(meter.rows, first, EDGE)


def test_a_scaler_that_is_none_is_refused_with_the_names_of_meter_and_register():
    meter = a_meter(30)
    meter.scalers[IMPORT[1]] = (13, 30)
    with pytest.raises(MeterDiffers, match=r"meter P1: 3/1\.0\.1\.8\.0\.255/2: expected a scaler"):
        a_driver(meter).profile(EDGE, EDGE)
