"""The clock and the event logs of a meter, and the counter that it wants to see rise."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.clock import ClockNotSet
from agent.dlms.constants import obis
from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, CounterBehind, MeterDiffers
from agent.dlms.event_log import STRETCH_S
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.meter_class import ClockSetting, EventLog
from agent.dlms.security.settings import Security
from agent.driver import ClockBounds, MeterEvent, MeterRefused
from tests.agent.dlms.plain_meter import CLOCK, PlainMeter, capture
from tests.agent.dlms.test_dlms_profile import CLASS, EDGE, NOW_UTC_S, a_driver, a_meter
from wire.quality import Quality

MIDDLE = EDGE + 450
SET = ClockSetting("set")
SHIFT = ClockSetting("shift")
FRAUD = obis("0.0.99.98.1.255")
FRAUD_LOG = EventLog(Attribute(7, FRAUD, 2))


def off_by(ahead_s: float, at_utc_s: float = MIDDLE, *habits: str, **fields) -> PlainMeter:
    meter = a_meter(10, *habits, ahead_s=ahead_s, **fields)
    meter.clock.utc_s = at_utc_s
    return meter


@pytest.mark.parametrize("ahead_s", [-7, 0, 100])
@pytest.mark.parametrize(
    ("deviation_min", "summer"), [(-60, False), (0, False), (-0x8000, False), (-0x8000, True)]
)
def test_the_clock_is_read_beside_ours_whatever_its_zone(ahead_s, deviation_min, summer):
    meter = off_by(ahead_s, deviation_min=deviation_min, summer=summer)
    reading = a_driver(meter).read_clock()
    assert (reading.at_utc_ms, reading.ahead_ms) == (MIDDLE * 1000, ahead_s * 1000)
    assert reading.flags == 0
    assert meter.asked == ["clock"]


def test_the_instant_of_a_read_is_the_middle_of_the_transaction():
    meter = off_by(0)
    answer = meter.octets

    def slow(utc_s):
        octets = answer(utc_s)
        meter.clock.utc_s += 2
        return octets

    meter_class = type("Slow", (PlainMeter,), {"octets": staticmethod(slow)})
    slow_meter = meter_class(meter.clock, meter.rows)
    reading = a_driver(slow_meter).read_clock()
    assert reading.at_utc_ms == (MIDDLE + 1) * 1000
    assert reading.ahead_ms == -1000


def test_hundredths_count_and_a_doubtful_clock_is_flagged():
    meter = off_by(0)
    octets = meter.octets(MIDDLE)
    meter_class = type(
        "Exact",
        (PlainMeter,),
        {"octets": lambda self, utc_s: octets[:8] + b"\x19" + octets[9:11] + b"\x02"},
    )
    reading = a_driver(meter_class(meter.clock, meter.rows)).read_clock()
    assert reading.ahead_ms == 250
    assert reading.flags == Quality.CLOCK_UNTRUSTED


def test_a_clock_that_is_no_date_time_is_an_error():
    meter = off_by(0)
    meter_class = type("Odd", (PlainMeter,), {"octets": lambda self, utc_s: b"now"})
    with pytest.raises(AnswerMalformed, match="12 bytes"):
        a_driver(meter_class(meter.clock, meter.rows)).read_clock()


@pytest.mark.parametrize("ahead_s", [-40, 40, 299])
@pytest.mark.parametrize(("setting", "done"), [(SET, "set"), (SHIFT, "shift")])
@pytest.mark.parametrize(
    ("deviation_min", "summer"), [(-60, False), (-0x8000, False), (-0x8000, True)]
)
def test_a_clock_is_set_as_its_class_says(ahead_s, setting, done, deviation_min, summer):
    meter = off_by(ahead_s, deviation_min=deviation_min, summer=summer)
    driver = a_driver(meter, clock_setting=setting)
    assert driver.set_clock().ahead_ms == ahead_s * 1000
    assert done in meter.asked
    assert abs(driver.read_clock().ahead_ms) <= 500


@pytest.mark.parametrize(
    ("setting", "ahead_s", "at_utc_s", "why"),
    [
        (ClockSetting(), 60, MIDDLE, "never"),
        (SET, 1, MIDDLE, "less than 3 s"),
        (SET, 301, MIDDLE, "more than the 300 s"),
        (ClockSetting("shift", most_s=3000), 901, MIDDLE, "more than the 900 s"),
        (SET, 60, EDGE + 880, "edge"),
        (SET, -60, EDGE + 30, "edge"),
        (SET, 5, EDGE + 3, "edge"),
        (SET, -5, EDGE - 3, "edge"),
    ],
)
def test_a_clock_is_left_alone_with_a_reason(setting, ahead_s, at_utc_s, why):
    meter = off_by(ahead_s, at_utc_s)
    with pytest.raises(ClockNotSet, match=why) as error:
        a_driver(meter, clock_setting=setting).set_clock()
    assert isinstance(error.value, MeterRefused)
    assert not {"set", "shift"} & set(meter.asked)


@settings(max_examples=100, deadline=None)
@given(ahead_s=st.integers(-400, 400), into_s=st.integers(0, 899))
def test_no_clock_is_ever_set_across_an_edge(ahead_s, into_s):
    meter = off_by(ahead_s, EDGE + into_s)
    try:
        a_driver(meter, clock_setting=SET).set_clock()
    except ClockNotSet:
        assert meter.ahead_s == ahead_s
    else:
        assert (EDGE + into_s) // 900 == (EDGE + into_s + ahead_s) // 900
        assert 3 <= abs(ahead_s) <= 300


def test_a_meter_that_accepts_and_does_nothing_is_found_out():
    with pytest.raises(ClockNotSet, match="accepted"):
        a_driver(off_by(60, MIDDLE, "deaf"), clock_setting=SET).set_clock()


def test_row_stamps_bound_the_clock():
    meter = a_meter(10)
    driver = a_driver(meter)
    assert driver.clock_bounds is None
    driver.profile(EDGE - 900, EDGE)
    assert driver.clock_bounds == ClockBounds(-3000, 897_000)
    meter.clock.utc_s = EDGE - 20.0  # the meter has written a row that is in our future
    driver.profile(EDGE - 900, EDGE)
    assert driver.clock_bounds.least_ms == 20_000


@given(st.integers(0, 2**32), st.integers(-720, 720), st.booleans())
def test_a_date_time_in_another_ones_form_says_the_same_instant(utc_s, offset_min, inverted):
    time = MeterTime(60, inverted_deviation=inverted)
    shown = time.octets(utc_s)[:9] + offset_min.to_bytes(2, "big", signed=True) + b"\x80"
    for octets in (shown, shown[:9] + b"\x80\x00\x80", shown[:9] + b"\x80\x00\xff"):
        assert time.utc_s(time.like(octets, utc_s)) == utc_s


def entry(meter: PlainMeter, stamp: int, code: int, *further: bytes) -> tuple[int, bytes]:
    clock = axdr.octets(meter.octets(stamp))
    return stamp, axdr.structure(clock, axdr.number(17, code), *further)


def with_log(*stamps: int, objects: tuple[bytes, ...] = ()) -> PlainMeter:
    meter = a_meter(1)
    columns = [capture(8, CLOCK), capture(1, obis("0.0.96.11.1.255")), *objects]
    entries = [entry(meter, stamp, at % 256) for at, stamp in enumerate(stamps)]
    meter.logs[FRAUD] = (columns, entries)
    return meter


def test_events_come_oldest_first_from_where_one_left_off():
    stamps = [NOW_UTC_S - 5000, NOW_UTC_S - 3000, NOW_UTC_S - 100]
    driver = a_driver(with_log(*stamps), logs={"fraud": FRAUD_LOG})
    assert driver.event_logs == ("fraud",)
    assert driver.events("fraud", stamps[1]) == [
        MeterEvent("fraud", stamps[1], 1),
        MeterEvent("fraud", stamps[2], 2),
    ]
    assert driver.events("fraud", NOW_UTC_S) == []
    assert driver.serial == "P1"


@settings(max_examples=60, deadline=None)
@given(
    ages_s=st.lists(st.integers(-40_000, 60 * 86400), max_size=60),
    after_s=st.integers(0, 80 * 86400),
    most=st.integers(5, 70),
)
def test_every_event_comes_in_the_end_however_much_an_answer_may_hold(ages_s, after_s, most):
    stamps = sorted(NOW_UTC_S - age for age in ages_s)
    meter = with_log(*stamps)
    whole = PlainMeter._value

    def bounded(self, class_id, name, index, selection):
        value = whole(self, class_id, name, index, selection)
        if name == FRAUD and index == 2 and value[2] > most:
            raise AnswerTooLarge("too much")
        return value

    meter_class = type("Bounded", (PlainMeter,), {"_value": bounded})
    log = meter_class(meter.clock, meter.rows, logs=meter.logs)
    driver = a_driver(log, logs={"fraud": FRAUD_LOG})
    after = NOW_UTC_S - after_s
    found: dict[tuple[int, int], None] = {}
    for _ in range(200):
        events = driver.events("fraud", after)
        assert [event.at_utc_s for event in events] == sorted(e.at_utc_s for e in events)
        found |= {(event.at_utc_s, event.code): None for event in events}
        if not events or events[-1].at_utc_s == after:
            break
        after = events[-1].at_utc_s
    wanted = {(stamp, at) for at, stamp in enumerate(stamps) if stamp >= NOW_UTC_S - after_s}
    assert set(found) == wanted


def test_a_log_without_news_costs_few_requests():
    meter = with_log()
    assert a_driver(meter, logs={"fraud": FRAUD_LOG}).events("fraud", 0) == []
    assert meter.asked.count("log") < 15
    meter.asked.clear()
    a_driver(meter, logs={"fraud": FRAUD_LOG}).events("fraud", NOW_UTC_S - STRETCH_S // 2)
    assert meter.asked.count("log") == 1


def test_further_columns_become_the_detail():
    objects = (
        capture(1, obis("0.0.96.20.1.255")),
        capture(3, obis("1.0.32.7.0.255")),
        capture(1, obis("0.0.96.1.0.255")),
    )
    meter = with_log(objects=objects)
    further = (axdr.visible("cover open"), axdr.number(18, 2301), axdr.octets(b"\x00\xff"))
    meter.logs[FRAUD][1].append(entry(meter, NOW_UTC_S, 40, *further))
    log = EventLog(FRAUD_LOG.buffer, columns={"what": Attribute.parse("1/0.0.96.20.1.255/2")})
    (event,) = a_driver(meter, logs={"maker": log}).events("maker", NOW_UTC_S)
    assert event == MeterEvent(
        "maker", NOW_UTC_S, 40, "what=cover_open 1.0.32.7.0.255=2301 0.0.96.1.0.255=00ff"
    )


def test_an_entry_without_clock_happened_with_the_one_before():
    meter = with_log(NOW_UTC_S - 5)
    meter.logs[FRAUD][1].append((NOW_UTC_S - 5, axdr.structure(axdr.NULL, axdr.number(17, 9))))
    events = a_driver(meter, logs={"fraud": FRAUD_LOG}).events("fraud", NOW_UTC_S - 60)
    assert [(event.at_utc_s, event.code) for event in events] == [
        (NOW_UTC_S - 5, 0),
        (NOW_UTC_S - 5, 9),
    ]


def test_a_log_whose_columns_change_is_mapped_anew():
    meter = with_log(NOW_UTC_S - 50)
    driver = a_driver(meter, logs={"fraud": FRAUD_LOG})
    driver.events("fraud", NOW_UTC_S - 60)
    columns, entries = meter.logs[FRAUD]
    columns.reverse()
    entries[0] = (
        NOW_UTC_S - 50,
        axdr.structure(axdr.number(17, 7), axdr.octets(meter.octets(NOW_UTC_S - 50))),
    )
    assert driver.events("fraud", NOW_UTC_S - 60) == [MeterEvent("fraud", NOW_UTC_S - 50, 7)]


def test_a_log_without_event_code_says_what_to_do():
    meter = with_log(NOW_UTC_S)
    del meter.logs[FRAUD][0][1]
    with pytest.raises(MeterDiffers, match=r"\[logs\]"):
        a_driver(meter, logs={"fraud": FRAUD_LOG}).events("fraud", 0)
    with pytest.raises(ValueError, match="no log 'standard'"):
        a_driver(meter, logs={"fraud": FRAUD_LOG}).events("standard", 0)


class Counter:
    def __init__(self) -> None:
        self.above = 0

    def next(self) -> int:
        self.above += 1
        return self.above

    def raise_above(self, value: int) -> None:
        self.above = max(self.above, value)


def behind(meter: PlainMeter, counter: Counter, *, object_: str | None) -> DlmsDriver:
    """A driver of a meter that lets nobody in whose counter is not above its own."""

    class Strict(PlainMeter):
        def open(self) -> None:
            meter.asked.append("open")
            if counter.above <= 5000:
                raise CounterBehind("invocation-counter-error")

    strict = Strict(meter.clock, meter.rows)
    return DlmsDriver(
        lambda client_sap: meter if client_sap == 16 else strict,
        dataclasses.replace(
            CLASS,
            mechanism="none",
            counter_object=None if object_ is None else Attribute.parse(object_),
        ),
        meter.clock,
        security=Security(counter=counter),
        name="meter P1",
    )


@pytest.mark.parametrize("seen", [5000, 5001, 2**32 - 1])
def test_a_counter_that_is_behind_is_raised_through_the_public_client_once(seen):
    meter, counter = a_meter(3, counter=seen), Counter()
    driver = behind(meter, counter, object_="1/0.0.43.1.0.255/2")
    counter.above = 7
    if seen > 5000:
        assert len(driver.profile(EDGE, EDGE)) == 1
    else:
        with pytest.raises(CounterBehind):
            driver.profile(EDGE, EDGE)
    assert counter.above == seen
    assert meter.asked == ["open", "counter", "open"]


def test_a_counter_that_cannot_be_read_is_the_meters_refusal():
    meter = a_meter(3)
    with pytest.raises(CounterBehind):
        behind(meter, Counter(), object_=None).profile(EDGE, EDGE)
    assert meter.asked == ["open"]


def test_a_counter_refused_in_the_middle_is_raised_too():
    meter, counter = a_meter(3, counter=5001), Counter()

    class Late(PlainMeter):
        def request(self, apdu, what, *, tries=None):
            if apdu[0] == 0xC0 and counter.above <= 5000:
                raise CounterBehind("invocation-counter-error")
            return super().request(apdu, what, tries=tries)

    late = Late(meter.clock, meter.rows)
    driver = DlmsDriver(
        lambda client_sap: meter if client_sap == 16 else late,
        dataclasses.replace(
            CLASS, mechanism="none", counter_object=Attribute.parse("1/0.0.43.1.0.255/2")
        ),
        meter.clock,
        security=Security(counter=counter),
        name="meter P1",
    )
    assert len(driver.profile(EDGE, EDGE)) == 1
    assert late.links == 2
    assert meter.asked == ["counter"]
