"""Quantities that a meter has in parts only: quadrants of reactive energy, tariffs, phases."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import obis
from agent.dlms.errors import MeterDiffers
from agent.dlms.load_profile.scaling import Transformers
from agent.dlms.meter_class import Quantity
from tests.agent.dlms.plain_meter import CLOCK, PERIOD_S, STATUS, PlainMeter, Row
from tests.agent.dlms.test_dlms_profile import CLASS, EDGE, StoppedClock, a_driver

QUADRANTS = tuple((3, obis(f"1.0.{number}.8.0.255")) for number in (5, 6))
PARTS = tuple(Attribute(class_id, name, 2) for class_id, name in QUADRANTS)
REACTIVE = {"import_varh": Quantity(PARTS, "varh")}
DAY_S = 86_400
VALUES = st.none() | st.integers(0, 2**32 - 1)


def a_meter(rows: list[Row], scalers: tuple[int, int], *habits: str) -> PlainMeter:
    meter = PlainMeter(StoppedClock(), rows, frozenset(habits))
    meter.columns = ((8, CLOCK), STATUS, *QUADRANTS)
    meter.scalers = {
        name: (scaler, 32) for (_, name), scaler in zip(QUADRANTS, scalers, strict=True)
    }
    return meter


def whole(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


@settings(deadline=None)
@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    st.booleans(),
)
def test_a_quantity_of_several_columns_is_their_sum_and_missing_where_one_is(
    values, scalers, null_is_previous
):
    ends = [EDGE - PERIOD_S * ago for ago in reversed(range(len(values)))]
    rows = [Row(end, row) for end, row in zip(ends, values, strict=True)]
    driver = a_driver(
        a_meter(rows, scalers),
        columns=REACTIVE,
        quantities={},
        null_is_previous=null_is_previous,
        transformers=Transformers(current=Fraction(250, 3)),
        side="secondary",
    )
    expected, last = [], [None, None]
    for row in values:
        if null_is_previous:
            last = [old if new is None else new for old, new in zip(last, row, strict=True)]
        else:
            last = list(row)
        parts = [
            None if value is None else value * Fraction(10) ** scaler * Fraction(250, 3)
            for value, scaler in zip(last, scalers, strict=True)
        ]
        expected.append(None if None in parts else whole(sum(parts)))
    assert [row.import_varh for row in driver.profile(ends[0], EDGE)] == expected


@given(
    st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_registers_are_added_up_before_they_are_rounded(values, scalers):
    meter = a_meter([], scalers)
    meter.registers = {name: value for (_, name), value in zip(QUADRANTS, values, strict=True)}
    sample = a_driver(meter, quantities=REACTIVE).sample()
    total = sum(
        value * Fraction(10) ** scaler for value, scaler in zip(values, scalers, strict=True)
    )
    assert sample.import_varh == whole(total)


def test_a_part_that_the_meter_does_not_capture_is_an_error():
    meter = a_meter([Row(EDGE, [1, 2])], (0, 0))
    meter.columns = meter.columns[:-1]
    with pytest.raises(MeterDiffers, match="not import_varh"):
        a_driver(meter, columns=REACTIVE, quantities={}).profile(EDGE, EDGE)


def test_each_part_has_the_unit_of_the_class():
    meter = a_meter([], (0, 0))
    meter.scalers[QUADRANTS[1][1]] = (0, 30)
    with pytest.raises(MeterDiffers, match=r"3/1\.0\.6\.8\.0\.255/2 is in 'Wh'.*says 'varh'"):
        a_driver(meter, quantities=REACTIVE).sample()


class TwoDeltas(PlainMeter):
    """Its registers climb, each at its pace; a row holds what each gained in the interval."""

    begun_utc_s = EDGE - 40 * PERIOD_S

    def begin(self, paces: tuple[int, int], coarse: int) -> TwoDeltas:
        """`paces` in s for a varh; `coarse` decades by which the second register is coarser."""
        self.paces, self.coarse = paces, coarse
        self.columns = ((8, CLOCK), STATUS, *QUADRANTS)
        self.scalers = {name: (0, 32) for _, name in (*QUADRANTS, *REGISTERS)}
        self.scalers[REGISTERS[1][1]] = (coarse, 32)
        return self

    def climbed(self, part: int, utc_s: float) -> int:
        return 1000 * (part + 1) + int(utc_s - self.begun_utc_s) // self.paces[part]

    def request(self, apdu, what, *, tries=None):
        now = self.clock.now_utc_s()
        self.rows = [
            Row(end, [self.climbed(n, end) - self.climbed(n, end - PERIOD_S) for n in (0, 1)])
            for end in range(self.begun_utc_s, int(now) + 1, PERIOD_S)
        ]
        self.registers = {
            name: self.climbed(n, now) // (10**self.coarse if n else 1)
            for n, (_, name) in enumerate(REGISTERS)
        }
        return super().request(apdu, what, tries=tries)


REGISTERS = tuple((3, obis(f"1.1.{number}.8.0.255")) for number in (5, 6))


def summed_from(*names: tuple[int, bytes]) -> dict[str, Quantity]:
    return {"import_varh": Quantity(tuple(Attribute(*name, 2) for name in names), "varh")}


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(60, 4000), st.integers(60, 4000)),
    st.integers(0, 2),
    st.lists(st.integers(100, 2500), min_size=3, max_size=20),
)
def test_counters_from_energies_of_several_columns_are_true(paces, coarse, steps):
    meter = TwoDeltas(StoppedClock()).begin(paces, coarse)
    driver = a_driver(
        meter, quantities=summed_from(*REGISTERS), columns=REACTIVE, energies="deltas"
    )
    for forward_s in steps:
        meter.clock.utc_s += forward_s
        last = int(meter.clock.utc_s) // PERIOD_S * PERIOD_S
        for row in driver.profile(last - 3 * PERIOD_S, last):
            assert row.import_varh == sum(meter.climbed(n, row.end_utc_s) for n in (0, 1))


def test_counters_from_energies_of_several_columns_come():
    meter = TwoDeltas(StoppedClock()).begin((2000, 1800), 0)
    driver = a_driver(
        meter, quantities=summed_from(*REGISTERS), columns=REACTIVE, energies="deltas"
    )
    found = []
    for _ in range(12):
        meter.clock.utc_s += 301
        found += driver.profile(EDGE - PERIOD_S, int(meter.clock.utc_s))
    assert found


def test_energies_and_registers_that_are_not_pairs_are_refused():
    meter = TwoDeltas(StoppedClock()).begin((60, 60), 0)
    driver = a_driver(
        meter, quantities=summed_from(REGISTERS[0]), columns=REACTIVE, energies="deltas"
    )
    with pytest.raises(MeterDiffers, match=r"another number of registers .* for import_varh"):
        driver.profile(EDGE, EDGE)


def test_what_is_not_in_the_class_is_not_read():
    assert "import_varh" in CLASS.profile.columns
    meter = a_meter([Row(EDGE, [1, 2])], (0, 0))
    (row,) = a_driver(meter, columns=REACTIVE, quantities={}).profile(EDGE, EDGE)
    assert (row.import_wh, row.import_varh) == (None, 3)


def named(unit: str, *names: str) -> Quantity:
    return Quantity(tuple(Attribute.parse(f"3/{name}/2") for name in names), unit)


@pytest.mark.parametrize(
    ("model", "name", "parts"),
    [
        ("ct_meter", "import_varh", named("varh", "1.0.5.8.0.255", "1.0.6.8.0.255")),
        ("idis_residential", "import_wh", named("Wh", *(f"1.0.1.8.{n}.255" for n in range(1, 5)))),
    ],
)
def test_quadrants_and_tariffs_of_a_meter_add_up_to_its_total(make_bench, model, name, parts):
    bench = make_bench(model)
    totals = bench.driver.sample()
    quantities = {**bench.meter_class.quantities, name: parts}
    bench.meter_class = dataclasses.replace(bench.meter_class, quantities=quantities)
    assert bench.another_driver().sample() == totals


def test_rows_of_a_meter_that_captures_quadrants_add_up_to_the_total(make_bench):
    bench = make_bench("ct_meter")
    totals = bench.driver.profile(EDGE - DAY_S, EDGE)
    quadrants = named("varh", "1.0.5.8.0.255", "1.0.6.8.0.255")
    columns = {**bench.meter_class.profile.columns, "import_varh": quadrants}
    rows = bench.another_driver(columns=columns).profile(EDGE - DAY_S, EDGE)
    assert rows == totals
    assert len(rows) > 90
