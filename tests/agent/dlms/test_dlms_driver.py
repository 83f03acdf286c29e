from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import (
    AccessRefused,
    AnswerMalformed,
    AssociationRefused,
    LinkLost,
    MeterDiffers,
    NoAnswer,
)
from agent.dlms.meter_class import load_meter_class
from agent.driver import MeterRefused, MeterSilent, ProfileRow, ReadError
from hil.meters.dlms.hdlc import build
from wire.quality import Quality

NOW_UTC_S = 1_763_820_003
LAST_END_UTC_S = NOW_UTC_S - NOW_UTC_S % 900
DAY_S = 86400
PROFILE = int(Quality.PROFILE)
DISC = 0x53
DISCONNECT = build(b"\x02\x23", b"\x03", DISC)


def recorded_rows(bench, first, last, flags=PROFILE):
    return [
        ProfileRow(*dataclasses.astuple(row), flags=flags)
        for row in bench.meter.shown.recorded(first, last)
    ]


def control_of(frame: bytes) -> int:
    return frame[6]


def test_a_sample_is_what_the_meter_shows(bench):
    sample = bench.driver.sample()
    shown = bench.meter.shown.registers(NOW_UTC_S)
    assert (sample.import_wh, sample.export_wh, sample.import_varh) == (
        shown.import_wh,
        shown.export_wh,
        shown.import_varh,
    )
    assert (sample.voltage_dv, sample.current_ca) == (2312, 457)
    assert sample.serial == "LS0012345"
    assert sample.at_utc_ms == NOW_UTC_S * 1000


def test_a_check_meter_shows_more_than_32_bits_hold(make_bench):
    bench = make_bench("transformer_check")
    big = 2**40 + 7
    bench.meter.shown.registers = lambda at: dataclasses.replace(
        type(bench.meter.shown)().registers(at), import_wh=big
    )
    assert bench.driver.sample().import_wh == big


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("max_pdu", [0xFFFF, 512, 128])
@pytest.mark.parametrize(("longest_info", "window"), [(2030, 7), (128, 1), (64, 3)])
def test_a_day_of_profile_equals_what_the_meter_recorded(
    make_bench, lists, max_pdu, longest_info, window
):
    bench = make_bench(lists=lists, max_pdu=max_pdu, longest_info=longest_info, window=window)
    first = LAST_END_UTC_S - DAY_S
    rows = bench.driver.profile(first, LAST_END_UTC_S)
    assert rows == recorded_rows(bench, first, LAST_END_UTC_S)
    assert bench.driver.serial == "LS0012345"


@pytest.mark.parametrize("proposed", [True, False])
def test_answers_come_in_general_blocks_where_the_class_proposes_them(make_bench, proposed):
    bench = make_bench(general_blocks=True, max_pdu=128)
    link = dataclasses.replace(bench.meter_class.link, general_blocks=proposed)
    bench.meter_class = dataclasses.replace(bench.meter_class, link=link)
    first = LAST_END_UTC_S - DAY_S
    rows = bench.another_driver().profile(first, LAST_END_UTC_S)
    assert rows == recorded_rows(bench, first, LAST_END_UTC_S)
    general_blocks = [frame for frame in bench.wire.answered if b"\xe6\xe7\x00\xe0" in frame]
    assert bool(general_blocks) == proposed


def test_the_profile_holds_only_what_was_asked_for(bench):
    rows = bench.driver.profile(LAST_END_UTC_S - 900, LAST_END_UTC_S - 900)
    assert [row.end_utc_s for row in rows] == [LAST_END_UTC_S - 900]


def test_a_time_before_the_meters_memory_gives_no_rows(bench):
    assert bench.driver.profile(0, LAST_END_UTC_S - 61 * DAY_S) == []


def test_a_range_longer_than_a_slice_is_read_in_one_association(bench):
    driver = bench.another_driver(slice_rows=40)
    first = LAST_END_UTC_S - DAY_S
    assert driver.profile(first, LAST_END_UTC_S) == recorded_rows(bench, first, LAST_END_UTC_S)
    assert sum(control_of(frame) == 0x93 for frame in bench.wire.sent) == 1


def test_whole_hours_and_missing_nulls_are_settings(bench):
    driver = bench.another_driver(whole_hours=True, null_is_previous=False)
    rows = driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    assert rows == recorded_rows(bench, LAST_END_UTC_S, LAST_END_UTC_S)


def test_null_clocks_count_on_by_the_capture_period(make_bench):
    bench = make_bench(quirks=frozenset({"null clocks"}))
    first = LAST_END_UTC_S - DAY_S
    rows = bench.driver.profile(first, LAST_END_UTC_S)
    assert rows == recorded_rows(bench, first, LAST_END_UTC_S)


def test_the_status_byte_becomes_quality_flags(make_bench):
    bench = make_bench(status_of=lambda end: 0x82 if end == LAST_END_UTC_S else 0x08)
    before, last = bench.driver.profile(LAST_END_UTC_S - 900, LAST_END_UTC_S)
    assert before.flags == Quality.PROFILE
    assert last.flags == Quality.PROFILE | Quality.POWER_FAIL | Quality.CLOCK_UNTRUSTED


def test_every_association_ends_in_disc(bench):
    bench.driver.sample()
    assert control_of(bench.wire.sent[-1]) == DISC
    bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    assert control_of(bench.wire.sent[-1]) == DISC


def test_a_session_keeps_one_association_for_several_reads(bench):
    with bench.driver.session():
        bench.driver.sample()
        bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    controls = [control_of(frame) for frame in bench.wire.sent]
    assert controls.count(0x93) == 1
    assert controls.count(DISC) == 1


def test_what_never_changes_is_read_once(bench):
    bench.driver.sample()
    first = len(bench.wire.sent)
    bench.driver.sample()
    again = len(bench.wire.sent) - first
    assert again == first - 1
    assert again == 4  # SNRM, AARQ, serial number with values, DISC


def test_another_serial_number_makes_the_driver_learn_the_meter_again(bench):
    bench.driver.sample()
    bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    bench.meter.shown.serial = "NEW0000001"
    before = len(bench.wire.sent)
    assert bench.driver.sample().serial == "NEW0000001"
    assert len(bench.wire.sent) - before == 6
    rows = bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    assert rows == recorded_rows(bench, LAST_END_UTC_S, LAST_END_UTC_S)


@pytest.mark.parametrize("read", ["sample", "profile"])
def test_a_serial_number_that_never_stays_is_an_error(bench, read):
    numbers = iter(range(1000))
    type(bench.meter.shown).serial = property(
        lambda face: f"LS{next(numbers)}", lambda face, value: None
    )
    try:
        with pytest.raises(MeterDiffers, match="server address"):
            for _ in range(2):
                if read == "sample":
                    bench.driver.sample()
                else:
                    bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    finally:
        del type(bench.meter.shown).serial


def test_a_silent_meter_costs_its_tries_and_is_said_to_be_silent(bench):
    bench.wire.disturb = lambda number, data: b""
    with pytest.raises(NoAnswer, match="no answer to SNRM in 3 tries") as error:
        bench.driver.sample()
    assert isinstance(error.value, MeterSilent)
    assert [control_of(sent) for sent in bench.wire.sent] == [0x93, 0x93, DISC, 0x93, DISC]
    assert control_of(bench.wire.sent[-1]) == DISC


def test_a_babbling_line_is_given_up_too(bench):
    bench.wire.disturb = lambda number, data: b"\x7e\xa7\xff" + bytes(40) if number % 2 else data
    with pytest.raises(NoAnswer):
        bench.driver.sample()


def test_a_meter_that_falls_silent_in_the_middle_is_disconnected(bench):
    bench.wire.disturb = lambda number, data: b"" if number > 8 else data
    with pytest.raises(MeterSilent):
        bench.driver.profile(LAST_END_UTC_S - DAY_S, LAST_END_UTC_S)
    assert control_of(bench.wire.sent[-1]) == DISC


def test_a_wrong_password_is_refused_with_its_name(bench):
    driver = DlmsDriver.on_port(
        bench.wire, bench.meter_class, bench.clock, server_address="1/17", password=b"wrong"
    )
    with pytest.raises(AssociationRefused, match="authentication-failure") as error:
        driver.sample()
    assert isinstance(error.value, MeterRefused)
    assert control_of(bench.wire.sent[-1]) == DISC


def test_a_class_with_password_needs_one(bench):
    with pytest.raises(ValueError, match="password_file"):
        DlmsDriver.on_port(bench.wire, bench.meter_class, bench.clock, server_address="1/17")


def test_the_public_client_may_not_read_registers(bench):
    public = dataclasses.replace(bench.meter_class, client_sap=16, mechanism="none")
    driver = DlmsDriver.on_port(bench.wire, public, bench.clock, server_address="1/17")
    with pytest.raises(AccessRefused, match="read-write-denied") as error:
        driver.sample()
    assert "read-write-denied" in error.value.result


def test_a_unit_that_the_class_does_not_expect_is_an_error(bench):
    quantities = dict(bench.meter_class.quantities)
    quantities["import_wh"] = dataclasses.replace(quantities["import_wh"], unit="varh")
    wrong = dataclasses.replace(bench.meter_class, quantities=quantities)
    driver = DlmsDriver.on_port(
        bench.wire, wrong, bench.clock, server_address="1/17", password=b"loadscape"
    )
    with pytest.raises(MeterDiffers, match="is in 'Wh', the meter class"):
        driver.sample()


def test_a_column_that_the_meter_does_not_capture_is_named(bench):
    columns = dict(bench.meter_class.profile.columns)
    columns["voltage_dv"] = bench.meter_class.quantities["voltage_dv"]
    driver = bench.another_driver(columns=columns)
    with pytest.raises(MeterDiffers, match="not voltage_dv"):
        driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)


def test_a_driver_survives_a_half_duplex_echo(bench):
    bench.wire.echoes = True
    first = LAST_END_UTC_S - DAY_S
    assert bench.driver.profile(first, LAST_END_UTC_S) == recorded_rows(
        bench, first, LAST_END_UTC_S
    )


def test_a_link_lost_in_the_middle_is_made_anew_once(bench):
    class Forgetful:
        """Drops the link before the fourth frame, as after a brown-out."""

        count = 0

        def __call__(self, number, data):
            if data[6:7] != b"\x53" and data[3:5] == b"\x02\x23":
                self.count += 1
                if self.count == 4:
                    bench.wire.bus.receive(DISCONNECT)
            return data

    bench.wire.disturb = Forgetful()
    assert bench.driver.sample().serial == "LS0012345"
    controls = [control_of(frame) for frame in bench.wire.sent]
    assert controls.count(0x93) == 2


def test_a_meter_that_drops_every_link_is_given_up(bench):
    def drop(number, data):
        if data[3:5] == b"\x02\x23" and not data[6] & 1:
            bench.wire.bus.receive(DISCONNECT)
        return data

    bench.wire.disturb = drop
    with pytest.raises(LinkLost):
        bench.driver.sample()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    faults=st.dictionaries(
        st.integers(1, 40), st.sampled_from(["lost", "garbled", "doubled", "cut"]), max_size=6
    ),
    longest_info=st.sampled_from([64, 128, 2030]),
    window=st.integers(1, 7),
)
def test_no_fault_of_the_line_makes_a_wrong_row(make_bench, faults, longest_info, window):
    bench = make_bench(longest_info=longest_info, window=window)

    def disturb(number: int, data: bytes) -> bytes:
        fault = faults.get(number)
        if fault == "lost":
            return b""
        if fault == "garbled":
            middle = len(data) // 2
            return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
        if fault == "doubled":
            return data + data
        return data[: len(data) // 3] if fault == "cut" else data

    bench.wire.disturb = disturb
    first = LAST_END_UTC_S - 20 * 900
    try:
        rows = bench.driver.profile(first, LAST_END_UTC_S)
    except ReadError:
        assert len(faults) > 1, "one fault has to be survived"
        return
    assert rows == recorded_rows(bench, first, LAST_END_UTC_S)


@pytest.mark.parametrize("name", ["idis_residential", "transformer_check"])
def test_shipped_classes_name_what_the_simulated_meters_hold(make_bench, name):
    assert load_meter_class(name).name == name
    bench = make_bench(name)
    assert bench.driver.sample().import_wh is not None
    assert len(bench.driver.profile(LAST_END_UTC_S - 900, LAST_END_UTC_S)) == 2


def test_a_garbled_profile_is_never_half_a_profile(bench):
    bench.driver.profile(LAST_END_UTC_S, LAST_END_UTC_S)
    columns = bench.driver._profile._columns
    with pytest.raises(AnswerMalformed):
        columns.rows(b"\x01\x02\x02\x07", 0, NOW_UTC_S)


@pytest.mark.parametrize("max_pdu", [0xFFFF, 128])
@pytest.mark.parametrize("lists", [True, False])
def test_a_day_of_profile_comes_by_entry_too(make_bench, lists, max_pdu):
    bench = make_bench(lists=lists, max_pdu=max_pdu)
    driver = bench.another_driver(access="entry")
    first, last = LAST_END_UTC_S - 9 * DAY_S, LAST_END_UTC_S - 8 * DAY_S
    assert driver.profile(first, last) == recorded_rows(bench, first, last)


def test_the_clock_of_a_meter_on_the_bench_is_ours(bench):
    reading = bench.driver.read_clock()
    assert (reading.at_utc_ms, reading.ahead_ms) == (NOW_UTC_S * 1000, 0)
    assert bench.driver.event_logs == tuple(bench.meter_class.logs)
