"""Event logs of meters that refuse ranges: read by number of entry, whatever the order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import obis
from agent.dlms.errors import AccessRefused, AnswerMalformed, AnswerTooLarge
from agent.dlms.meter_class import EventLog
from tests.agent.dlms.plain_meter import CLOCK, PlainMeter, capture
from tests.agent.dlms.test_dlms_profile import NOW_UTC_S, StoppedClock, a_driver

FRAUD = obis("0.0.99.98.1.255")
LOGS = {"fraud": EventLog(Attribute(7, FRAUD, 2))}


def with_entries(stamps, *habits, **fields) -> PlainMeter:
    """Codes count up in the order in which the entries were written."""
    meter = PlainMeter(StoppedClock(), habits=frozenset({"range refused", *habits}), **fields)
    columns = [capture(8, CLOCK), capture(1, obis("0.0.96.11.1.255"))]
    meter.logs[FRAUD] = (columns, [])
    write(meter, stamps)
    return meter


def write(meter: PlainMeter, stamps) -> None:
    entries = meter.logs[FRAUD][1]
    for stamp in stamps:
        clock = axdr.octets(meter.octets(stamp))
        entries.append((stamp, axdr.structure(clock, axdr.number(18, len(entries)))))


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
@pytest.mark.parametrize("count", [0, 1, 32, 33, 400])
def test_what_came_last_is_read_in_few_requests(order, count):
    stamps = [NOW_UTC_S - 600 * ago for ago in reversed(range(count))]
    meter = with_entries(stamps, order)
    driver = a_driver(meter, logs=LOGS)
    for _ in range(2):
        meter.asked.clear()
        events = driver.events("fraud", NOW_UTC_S - 3000)
        assert [event.code for event in events] == list(range(max(0, count - 6), count))
        assert len(meter.asked) < 12
    assert meter.asked.count("log") == 0, "that ranges are refused is remembered"
    meter.serial, meter.habits = "P2", meter.habits - {"range refused"}
    driver.events("fraud", NOW_UTC_S - 3000)
    driver.events("fraud", NOW_UTC_S - 3000)
    assert meter.asked.count("log"), "an exchanged meter has its own habits"


@settings(max_examples=100, deadline=None)
@given(
    steps_s=st.lists(st.integers(-1500, 90_000), max_size=90),
    order=st.sampled_from(["oldest first", "newest first"]),
    after_s=st.integers(0, 40 * 86400),
    most_entries=st.integers(8, 60),
)
def test_all_entries_come_though_the_clock_was_set_back(steps_s, order, after_s, most_entries):
    stamps = [NOW_UTC_S - 40 * 86400]
    for step_s in steps_s:
        # Set back once in a while, by less than the hour that is looked beyond.
        back = step_s < 0 and (len(stamps) < 2 or stamps[-2] < stamps[-1])
        stamps.append(stamps[-1] + (step_s if back else abs(step_s)))
    meter = with_entries(stamps, order, most_entries=most_entries)
    after = NOW_UTC_S - after_s
    events = a_driver(meter, logs=LOGS).events("fraud", after)
    wanted = sorted((stamp, code) for code, stamp in enumerate(stamps) if stamp >= after)
    assert sorted((event.at_utc_s, event.code) for event in events) == wanted
    assert [event.at_utc_s for event in events] == [stamp for stamp, _ in wanted]


def test_entries_before_a_clock_was_set_back_are_looked_for_behind_those_that_follow():
    before = [NOW_UTC_S - 100, NOW_UTC_S]
    meter = with_entries([*before, *range(NOW_UTC_S - 3000, NOW_UTC_S - 1000, 50)])
    events = a_driver(meter, logs=LOGS).events("fraud", NOW_UTC_S - 500)
    assert [event.code for event in events] == [0, 1]


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
def test_a_clock_that_was_far_ahead_once_hides_no_later_entry(order):
    ahead = [NOW_UTC_S + 3 * 86400 + ago for ago in range(40)]
    meter = with_entries([*ahead, *range(NOW_UTC_S - 50_000, NOW_UTC_S, 1000)], order)
    codes = [event.code for event in a_driver(meter, logs=LOGS).events("fraud", NOW_UTC_S - 1500)]
    assert {89} <= set(codes) <= {89, *range(40)}


def test_an_entry_that_is_written_meanwhile_is_never_read_twice():
    meter = with_entries([NOW_UTC_S - 60 * ago for ago in reversed(range(100))], "newest first")
    whole = PlainMeter._log

    def growing(self, entries, selection):
        answer = whole(self, entries, selection)
        if self.asked.count("log entry") == 3:
            write(self, [NOW_UTC_S])
        return answer

    meter_class = type("Growing", (PlainMeter,), {"_log": growing})
    fields = {name: getattr(meter, name) for name in ("clock", "habits", "logs")}
    driver = a_driver(meter_class(**fields), logs=LOGS)
    with pytest.raises(AnswerMalformed, match="written while"):
        driver.events("fraud", 0)
    codes = [event.code for event in driver.events("fraud", 0)]
    assert sorted(codes) == list(range(101))


def test_a_log_that_refuses_both_is_refused_by_range():
    meter = with_entries([NOW_UTC_S], "no entry")
    with pytest.raises(AccessRefused, match="other-reason"):
        a_driver(meter, logs=LOGS).events("fraud", 0)
    assert meter.asked.count("log") == 1


def test_a_single_entry_that_is_too_large_is_an_error():
    with pytest.raises(AnswerTooLarge):
        a_driver(with_entries([NOW_UTC_S], most_entries=0), logs=LOGS).events("fraud", 0)


@pytest.mark.parametrize("habit", ["range refused", "newest first"])
def test_an_entry_whose_clock_was_lost_costs_no_other_entry(habit):
    stamps = [NOW_UTC_S - 600 * ago for ago in reversed(range(5))]
    meter = with_entries(stamps, habit)
    entries = meter.logs[FRAUD][1]
    for place in (0, 2, 3):
        stamp = stamps[place]
        lost = b"\xff" * 12 if place < 3 else None
        clock = axdr.NULL if lost is None else axdr.octets(lost)
        entries[place] = (stamp, axdr.structure(clock, axdr.number(18, place)))
    events = a_driver(meter, logs=LOGS).events("fraud", 0)
    assert sorted(event.code for event in events) == [0, 1, 2, 3, 4]
    assert {event.at_utc_s for event in events} <= set(stamps)


def test_a_log_without_any_clock_is_an_error():
    meter = with_entries([NOW_UTC_S])
    entry = axdr.structure(axdr.octets(b"\xff" * 12), axdr.number(18, 1))
    meter.logs[FRAUD][1][:] = [(NOW_UTC_S, entry)]
    with pytest.raises(AnswerMalformed, match="expected dates and times"):
        a_driver(meter, logs=LOGS).events("fraud", 0)


def test_a_log_whose_ranges_bring_nothing_is_read_by_entry_and_an_empty_one_is_not():
    meter = with_entries([])
    meter.habits = frozenset({"range empty"})
    driver = a_driver(meter, logs=LOGS)
    assert driver.events("fraud", NOW_UTC_S - 500) == []
    assert "log entry" not in meter.asked
    write(meter, [NOW_UTC_S - 400])
    assert [event.code for event in driver.events("fraud", NOW_UTC_S - 500)] == [0]
    meter.asked.clear()
    driver.events("fraud", NOW_UTC_S - 500)
    assert "log" not in meter.asked, "that ranges bring nothing is remembered"


def test_that_ranges_work_is_asked_once():
    meter = with_entries([NOW_UTC_S - 90_000])
    meter.habits = frozenset()
    driver = a_driver(meter, logs=LOGS)
    for _ in range(3):
        assert driver.events("fraud", NOW_UTC_S - 500) == []
    assert meter.asked.count("log entry") == 1
