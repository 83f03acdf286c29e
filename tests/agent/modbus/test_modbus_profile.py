"""Meter profiles as data files: what a reading makes of a meter's registers."""

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.modbus.profile import (
    COUNTERS,
    ProfileError,
    Ratio,
    find,
    load,
    models,
    parse,
    shipped,
)
from agent.modbus.register import FORMATS, Register, ones
from wire.quality import Quality

WHOLE = """
model = "m"
title = "A meter"
phases = 1
function = 4
word_order = "big"
side = "secondary"
serial = "unknown"
most_power_w = 2000
most_power_source = "page 9"
[sample]
import_wh = ["t1", "t2"]
export_wh = ["export"]
voltage_dv = ["voltage"]
current_ca = ["current"]
[sources]
manual = "page 3"
[[register]]
name = "t1"
address = 72
type = "uint32"
scale = 0.01
unit = "kWh"
step = "10 Wh"
sources = ["manual"]
missing = [999]
[[register]]
name = "t2"
address = 74
type = "uint32"
scale = 0.01
unit = "kWh"
step = "10 Wh"
sources = ["manual"]
[[register]]
name = "export"
address = 76
type = "uint16"
unit = "kWh"
step = "1 kWh"
rollover = 10000
rollover_source = "manual"
optional = true
missing = [65535]
sources = ["manual"]
[[register]]
name = "voltage"
address = 10
type = "int16"
scale = 0.1
unit = "V"
min = 0
max = 500
sources = ["manual"]
[[register]]
name = "current"
address = 11
type = "int16"
scale = 0.01
unit = "A"
sources = ["manual"]
[[register]]
name = "frequency"
address = 12
type = "uint16"
scale = 0.1
unit = "Hz"
sources = ["manual"]
"""
RATIO = Ratio(current=Fraction(50), voltage=Fraction(100))


def words(first: int, *numbers: int) -> dict[int, bytes]:
    return {first + at: struct.pack(">H", number) for at, number in enumerate(numbers)}


COUNTED = words(72, 0, 100, 0, 20, 7)
GAUGED = words(10, 2301, 150, 500)


# --- the shipped models ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", models())
def test_each_example_of_a_profile_yields_its_reading(model: str) -> None:
    profile = shipped(model)
    assert profile.model == model
    assert profile.examples
    for example in profile.examples:
        reading = profile.reading(example.words)
        there = {name: value for name, value in reading.values.items() if value is not None}
        assert there == example.expect
        assert reading.flags == example.flags


@pytest.mark.parametrize("model", models())
def test_each_profile_has_an_example_of_every_value_that_it_feeds(model: str) -> None:
    profile = shipped(model)
    shown = {name for example in profile.examples for name in example.expect}
    assert shown == set(profile.sample)


@pytest.mark.parametrize("model", models())
def test_each_register_names_a_source_and_each_counter_its_step(model: str) -> None:
    profile = shipped(model)
    assert all(register.sources for register in profile.registers)
    for name in COUNTERS:
        assert all(register.step for register in profile.sample.get(name, ()))


@pytest.mark.parametrize("model", models())
def test_no_two_values_of_a_profile_share_a_register(model: str) -> None:
    taken = [
        address
        for register in shipped(model).registers
        for address in range(register.address, register.field.end)
    ]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize("model", models())
def test_every_value_that_a_profile_feeds_from_a_gauge_has_limits(model: str) -> None:
    for name, registers in shipped(model).sample.items():
        if name not in COUNTERS:
            assert all(r.lowest is not None and r.highest is not None for r in registers)


@pytest.mark.parametrize("model", models())
def test_the_delivered_speed_is_one_that_can_be_set(model: str) -> None:
    defaults = shipped(model).defaults
    assert defaults.source
    assert defaults.baud is None or not defaults.bauds or defaults.baud in defaults.bauds


def test_every_model_of_the_sixteen_ships() -> None:
    assert len(models()) == 16


def test_the_two_tariffs_of_a_meter_are_added() -> None:
    pac = shipped("siemens_pac3200")
    first, second = (struct.pack(">d", wh) for wh in (1_000_000.4, 500_000.3))
    shown = {801 + at: first[2 * at : 2 * at + 2] for at in range(4)}
    assert pac.reading(shown).values["import_wh"] is None
    shown |= {805 + at: second[2 * at : 2 * at + 2] for at in range(4)}
    assert pac.reading(shown).values["import_wh"] == 1_500_001


def test_the_low_word_comes_first_where_the_maker_sends_it_so() -> None:
    gavazzi = shipped("carlo_gavazzi_em340")
    assert gavazzi.reading(words(52, 1, 2)).values["import_wh"] == (2 * 65536 + 1) * 100


def test_the_resettable_counter_of_the_em24_is_not_its_total() -> None:
    (counter,) = shipped("carlo_gavazzi_em24_rs485").sample["import_wh"]
    assert counter.address == 0x3E


def test_an_unwired_phase_does_not_halve_the_voltage() -> None:
    eastron = shipped("eastron_sdm630")
    shown = words(0, 0x4366, 0x6666, 0, 0, 0, 0)
    assert eastron.reading(shown).values["voltage_dv"] == 2304


# --- no value, and values that cannot be ----------------------------------------------------------


def test_a_whole_reading_carries_no_flag() -> None:
    reading = parse(WHOLE, "p.toml").reading(COUNTED | GAUGED)
    assert reading.flags == 0
    assert reading.values == {
        "import_wh": 1200,
        "export_wh": 7000,
        "voltage_dv": 2301,
        "current_ca": 150,
    }


def test_registers_that_were_not_read_have_no_value_and_no_flag() -> None:
    reading = parse(WHOLE, "p.toml").reading(GAUGED)
    assert (reading.values["import_wh"], reading.values["export_wh"]) == (None, None)
    assert reading.flags == 0


def test_half_of_a_counter_is_not_a_counter() -> None:
    reading = parse(WHOLE, "p.toml").reading(words(72, 0, 100, 0))
    assert reading.values["import_wh"] is None


def test_a_counter_without_a_value_is_flagged_and_the_sum_has_none() -> None:
    reading = parse(WHOLE, "p.toml").reading(COUNTED | words(72, 0, 999))
    assert reading.values["import_wh"] is None
    assert reading.flags == Quality.NO_VALUE


def test_a_counter_that_some_variants_lack_is_missing_without_a_flag() -> None:
    reading = parse(WHOLE, "p.toml").reading(COUNTED | words(76, 0xFFFF))
    assert (reading.values["import_wh"], reading.values["export_wh"]) == (1200, None)
    assert reading.flags == 0


@pytest.mark.parametrize("raw", [5001, 0xFFFF])
def test_a_value_that_cannot_be_is_flagged_and_not_used(raw: int) -> None:
    reading = parse(WHOLE, "p.toml").reading(COUNTED | words(10, raw, 150))
    assert reading.values["voltage_dv"] is None
    assert reading.values["current_ca"] == 150
    assert reading.flags == Quality.OUT_OF_RANGE


@pytest.mark.parametrize("raw", [0, 5000])
def test_the_limits_themselves_are_possible(raw: int) -> None:
    reading = parse(WHOLE, "p.toml").reading(words(10, raw))
    assert (reading.values["voltage_dv"], reading.flags) == (raw, 0)


def test_one_impossible_phase_takes_the_mean_of_all_with_it() -> None:
    eastron = shipped("eastron_sdm630")
    reading = eastron.reading(words(0, 0x4366, 0x6666, 0x4366, 0x6666, 0x7F00, 0))
    assert reading.values["voltage_dv"] is None
    assert reading.flags == Quality.OUT_OF_RANGE


def test_ones_are_missing_where_the_maker_says_so() -> None:
    abb = shipped("abb_b23_b24")
    assert abb.reading(words(23296, *[0xFFFF] * 6)).values["voltage_dv"] is None
    assert abb.reading(words(23316, 0x7FFF, 0xFFFF)).values["power_w"] is None
    assert abb.reading(words(20480, *[0xFFFF] * 4)).flags == Quality.NO_VALUE


@pytest.mark.parametrize("word", [0x7FC0, 0xFFC0, 0x7F80, 0xFF80])
def test_what_is_not_a_finite_number_is_a_missing_value(word: int) -> None:
    reading = shipped("eastron_sdm120").reading(words(72, word, 0))
    assert reading.values["import_wh"] is None
    assert reading.flags == Quality.NO_VALUE


def test_the_powers_of_the_phases_are_added_and_one_that_is_missing_takes_the_sum_with_it() -> None:
    phase = """
[[register]]
name = "p{at}"
address = {at}
type = "int16"
unit = "W"
missing = [-32768]
sources = ["manual"]
"""
    text = WHOLE.replace("[sources]", 'power_w = ["p20", "p21", "p22"]\n[sources]')
    profile = parse(text + "".join(phase.format(at=at) for at in (20, 21, 22)), "p.toml")
    assert profile.reading(words(20, 100, 200, 0xFFFF)).values["power_w"] == 299
    assert profile.reading(words(20, 100, 200, 0x8000)).values["power_w"] is None
    assert profile.reading(words(20, 100, 200, 0x8000)).flags == 0


# --- ratios and limits of counters ----------------------------------------------------------------


def test_a_ratio_makes_primary_values_of_secondary_ones() -> None:
    reading = parse(WHOLE, "p.toml").reading(COUNTED | GAUGED, RATIO)
    assert reading.values == {
        "import_wh": 1200 * 5000,
        "export_wh": 7000 * 5000,
        "voltage_dv": 2301 * 100,
        "current_ca": 150 * 50,
    }


def test_limits_hold_for_what_the_meter_shows_not_for_the_primary_side() -> None:
    reading = parse(WHOLE, "p.toml").reading(words(10, 4000), RATIO)
    assert (reading.values["voltage_dv"], reading.flags) == (400_000, 0)


def test_a_counter_rolls_over_where_a_source_says_and_a_sum_of_two_does_not() -> None:
    limits = parse(WHOLE, "p.toml").counter_limits(RATIO)
    assert limits.rollover == {"export_wh": 10_000_000 * 5000}


def test_a_counter_may_gain_five_times_the_makers_maximum() -> None:
    profile = parse(WHOLE, "p.toml")
    assert profile.counter_limits().most_per_hour == 10_000
    assert profile.counter_limits(RATIO).most_per_hour == 10_000 * 5000
    assert replace(profile, most_power_w=None).counter_limits().most_per_hour is None


# --- the table of the read command ----------------------------------------------------------------


def test_every_register_is_shown_with_its_words_and_why_it_has_no_value() -> None:
    profile = parse(WHOLE, "p.toml")
    shown = profile.shown(words(72, 0, 999, 0, 20) | words(10, 6000, 150, 500), RATIO)
    rows = {row.name: (row.value, row.unit, row.note) for row in shown}
    assert rows == {
        "t1": (None, "Wh", "no value"),
        "t2": (Fraction(200 * 5000), "Wh", ""),
        "export": (None, "Wh", "not read"),
        "voltage": (None, "V", "out of range 0..500 V"),
        "current": (Fraction(75), "A", ""),
        "frequency": (Fraction(50), "Hz", ""),
    }
    assert [row.address for row in shown] == [72, 74, 76, 10, 11, 12]
    assert (shown[0].words, shown[2].words) == (b"\0\0\x03\xe7", b"")


# --- the numbers on the wire ----------------------------------------------------------------------


@st.composite
def registers_with_values(draw: st.DrawFn) -> tuple[Register, int | float, bytes]:
    kind = draw(st.sampled_from(sorted(FORMATS)))
    bits = 8 * struct.calcsize(FORMATS[kind])
    if kind.startswith("float"):
        raw: int | float = draw(st.floats(allow_nan=False, allow_infinity=False, width=bits))  # type: ignore[arg-type]
    elif kind.startswith("int"):
        raw = draw(st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
    else:
        raw = draw(st.integers(0, (1 << bits) - 1))
    order = draw(st.sampled_from(["big", "little"]))
    data = struct.pack(FORMATS[kind], raw)
    if order == "little":
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
    factor = draw(st.fractions(Fraction(1, 1000), 1000, max_denominator=1000))
    register = Register("r", 0, kind, factor, "W", ("s",), order)  # type: ignore[arg-type]
    return register, raw, data


@given(registers_with_values())
def test_a_value_is_exactly_its_number_times_its_scale(
    drawn: tuple[Register, int | float, bytes],
) -> None:
    register, raw, data = drawn
    assert register.decode(data) == (Fraction(raw) * register.factor, "value")


@given(st.sampled_from(sorted(kind for kind in FORMATS if "int" in kind)))
def test_ones_of_a_signed_number_are_its_highest_value(kind: str) -> None:
    size = struct.calcsize(FORMATS[kind])
    assert struct.pack(FORMATS[kind], ones(kind)).lstrip(b"\x7f") == b"\xff" * (
        size - kind.startswith("int")
    )


# --- where a profile is found ---------------------------------------------------------------------


def test_a_model_that_is_not_shipped_is_refused_with_the_list() -> None:
    with pytest.raises(ProfileError, match=r"expected one of .*eastron_sdm120"):
        shipped("eastron_sdm121")


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(WHOLE)
    assert load(tmp_path / "own.toml").title == "A meter"
    with pytest.raises(ProfileError, match=r"other\.toml: expected a readable profile"):
        load(tmp_path / "other.toml")


def test_a_configuration_names_a_model_or_a_path_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(WHOLE)
    assert find("own.toml", tmp_path).model == "m"
    assert find(str(tmp_path / "own.toml"), Path("/elsewhere")).model == "m"
    assert find("eastron_sdm120", tmp_path) is shipped("eastron_sdm120")
    with pytest.raises(ProfileError, match=r"missing\.toml: expected a readable profile"):
        find("missing.toml", tmp_path)
    with pytest.raises(ProfileError, match=r"ending in \.toml"):
        find("own", tmp_path)
