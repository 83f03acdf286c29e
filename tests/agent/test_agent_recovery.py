from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_bench import T0, Meter, S, flags_by_end, meter_of, read_all

from agent.driver import MeterSilent
from agent.recovery import Coverage, Gap
from agent.store.outline import Recalled
from wire.quality import Quality


@given(known=st.sets(st.integers(0, 60)), last=st.integers(-2, 60), most=st.integers(1, 70))
def test_the_newest_gap_is_the_newest_unknown_run_and_never_longer_than_asked(
    known: set[int], last: int, most: int
) -> None:
    coverage = Coverage(S, T0, [T0 + k * S for k in known])
    unknown = [k for k in range(last + 1) if k not in known]

    gap = coverage.newest_gap(T0 + last * S, most)

    if not unknown:
        assert gap is None
        return
    assert gap is not None
    first, newest = (gap.first_end_utc_s - T0) // S, (gap.last_end_utc_s - T0) // S
    assert newest == max(unknown)
    assert set(range(first, newest + 1)) <= set(unknown)
    assert newest - first + 1 == most or first == 0 or first - 1 in known
    assert coverage.count(T0 + last * S) == (last + 1 - len(unknown), last + 1)


def test_a_week_comes_newest_first_and_ends_when_all_is_known() -> None:
    now = T0 + 50.0
    driver = Meter(recorded={T0 - k * S: 1000 - k for k in range(96)})
    meter = meter_of(driver, now)

    got: dict[int, int] = {}
    while (gap := meter.gap(now, 40)) is not None:
        got |= flags_by_end(meter.read(gap, now))

    assert [last for _, last in driver.asked] == sorted(
        (last for _, last in driver.asked), reverse=True
    )
    assert len(got) == 96
    assert set(got.values()) == {int(Quality.PROFILE)}
    assert meter.progress(now) == (96, 96)


def test_what_the_meter_did_not_record_becomes_no_data_but_the_newest_row_may_still_come() -> None:
    now = T0 + 5.0
    driver = Meter(recorded={T0 - 2 * S: 7})
    meter = meter_of(driver, now)

    got = flags_by_end(meter.read(Gap(T0 - 3 * S, T0), now))

    assert got == {
        T0 - 3 * S: Quality.NO_DATA,
        T0 - 2 * S: Quality.PROFILE,
        T0 - S: Quality.NO_DATA,
    }
    after_retry = meter.gap(now + 0.2 * S, 1)
    assert after_retry == Gap(T0, T0)
    driver.recorded[T0] = 9
    assert flags_by_end(meter.read(after_retry, now + 0.2 * S)) == {T0: Quality.PROFILE}


def test_a_failed_read_changes_nothing() -> None:
    driver = Meter(silent=True)
    meter = meter_of(driver, T0)
    gap = meter.gap(T0, 4)
    assert gap is not None
    with pytest.raises(MeterSilent):
        meter.read(gap, T0)
    assert meter.gap(T0, 4) == gap


def test_an_interval_that_leaves_the_window_unread_is_reported_missing_once() -> None:
    meter = meter_of(Meter(silent=True), T0, recover_s=4 * S)

    assert flags_by_end(meter.expire(T0 + 2 * S)) == {
        T0 - 3 * S: Quality.NO_DATA,
        T0 - 2 * S: Quality.NO_DATA,
    }
    assert meter.expire(T0 + 2 * S) == []


def test_another_serial_number_opens_an_epoch_and_takes_nothing_of_the_new_meters_past() -> None:
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=[T0 - 3 * S, T0 - 2 * S])
    driver = Meter(serial="B2", recorded={T0 - k * S: 50 for k in range(8)})
    meter = meter_of(driver, T0 + 1, recalled=recalled, recover_s=8 * S)

    gap = meter.gap(T0 + 1, 8)
    assert gap == Gap(T0 - S, T0)
    (group,) = meter.read(gap, T0 + 1)
    assert group.epoch.serial == "B2"
    flags = flags_by_end([group])
    assert flags[T0 - S] == Quality.PROFILE | Quality.METER_EXCHANGED
    assert flags[T0] == Quality.PROFILE

    older = meter.gap(T0 + 1, 8)
    assert older is not None
    assert set(flags_by_end(meter.read(older, T0 + 1)).values()) == {int(Quality.NO_DATA)}


def test_channels_that_the_meter_lacks_are_not_claimed() -> None:
    driver = Meter(recorded={T0: 5})
    meter = meter_of(driver, T0 + 1)
    (group,) = meter.read(Gap(T0, T0), T0 + 1)
    assert group.epoch.channels == 0b111011
    assert group.rows == [(T0, (5, 0, 0, 2300, 100, int(Quality.PROFILE)))]


def test_what_the_meter_lacked_is_asked_again_a_day_later_and_comes_late() -> None:
    now = T0 + S - 1.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(8) if k != 5})
    meter = meter_of(driver, now, recover_s=8 * S, history_s=400 * S)
    assert read_all(meter, now)[T0 - 5 * S] == Quality.NO_DATA
    driver.recorded[T0 - 5 * S] = 8

    asked = len(driver.asked)
    meter.expire(now + 3600)
    assert meter.gap(now, 40) is None
    meter.expire(now + 86_400)

    driver.recorded |= {T0 + k * S: 9 for k in range(1, 97)}
    late = read_all(meter, now + 86_400)
    assert late[T0 - 5 * S] == Quality.PROFILE
    assert driver.asked[asked][1] > driver.asked[-1][1], "the newest comes first"
    meter.expire(now + 2 * 86_400)
    driver.recorded |= {T0 + k * S: 9 for k in range(97, 193)}
    assert T0 - 5 * S not in read_all(meter, now + 2 * 86_400)


def test_a_meter_that_was_away_is_asked_again_but_not_each_time_it_comes_back() -> None:
    now = T0 + S - 1.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(8) if k != 5})
    meter = meter_of(driver, now, recover_s=8 * S, history_s=400 * S)
    read_all(meter, now)
    looks = 0
    for step in range(1, 8):
        now += S
        driver.silent = True
        gap = meter.gap(now, 40)
        assert gap is not None
        with pytest.raises(MeterSilent):
            meter.read(gap, now)
        driver.silent = False
        driver.recorded[T0 + step * S] = 9
        read_all(meter, now)
        meter.expire(now)
        before = len(driver.asked)
        read_all(meter, now)
        looks += len(driver.asked) - before
    assert looks == 1


def test_an_outage_longer_than_the_window_is_reported_and_then_filled_from_the_meter() -> None:
    now = T0 + 5.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(300)})
    known = [T0 - k * S for k in range(200, 251)]
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=known)
    meter = meter_of(driver, now, recalled=recalled, recover_s=96 * S, history_s=288 * S)

    missing = flags_by_end(meter.expire(now))
    assert missing == {T0 - k * S: Quality.NO_DATA for k in range(96, 200)}
    got = read_all(meter, now)

    assert got == {T0 - k * S: Quality.PROFILE for k in range(200)}
    lasts = [last for _, last in driver.asked]
    assert lasts == sorted(lasts, reverse=True)


def test_what_is_reported_missing_is_asked_again_after_a_restart() -> None:
    ends = [T0 - k * S for k in range(96)]
    driver = Meter(recorded=dict.fromkeys(ends, 9))
    recalled = Recalled("A1", 0b111011, ends, missing_utc_s=[T0 - 90 * S, T0 - 91 * S, T0 - 4 * S])
    meter = meter_of(driver, T0 + 5.0, recalled=recalled)
    assert set(read_all(meter, T0 + 5.0)) == set(recalled.missing_utc_s)
    assert driver.asked == [(T0 - 4 * S,) * 2, (T0 - 91 * S, T0 - 90 * S)]


def test_a_meter_that_was_exchanged_is_not_asked_for_what_its_forerunner_lacked() -> None:
    ends = [T0 - k * S for k in range(1, 20)]
    recalled = Recalled("A1", 0b111011, ends, missing_utc_s=[T0 - 9 * S])
    driver = Meter(serial="B2", recorded={T0 - k * S: 50 for k in range(40)})
    meter = meter_of(driver, T0 + 5.0, recalled=recalled, recover_s=20 * S)
    got = read_all(meter, T0 + 5.0)
    assert got == {T0: Quality.PROFILE | Quality.METER_EXCHANGED}


@given(
    lacked=st.sets(st.integers(0, 95)),
    came=st.sets(st.integers(0, 95)),
    most=st.integers(1, 50),
)
def test_a_second_look_asks_for_all_that_lacks_in_bounds_and_says_only_what_is_new(
    lacked: set[int], came: set[int], most: int
) -> None:
    now = T0 + S - 1.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(96) if k not in lacked})
    meter = meter_of(driver, now, recover_s=96 * S, history_s=1000 * S)
    read_all(meter, now, most)
    driver.recorded |= {T0 - k * S: 9 for k in came}
    driver.recorded |= {T0 + k * S: 9 for k in range(1, 97)}
    meter.expire(now + 86_400)
    late = read_all(meter, now + 86_400, most)
    assert {end for end in late if end <= T0} == {T0 - k * S for k in lacked & came}
    assert all((last - first) // S < most for first, last in driver.asked)


def test_missing_intervals_that_are_newer_than_the_backlog_are_asked_again_too() -> None:
    ends = [T0 - k * S for k in range(20)]
    driver = Meter(recorded={T0 - k * S: 9 for k in range(40)})
    recalled = Recalled("A1", 0b111011, ends, missing_utc_s=[T0 - 4 * S])
    meter = meter_of(driver, T0 + 5.0, recalled=recalled, recover_s=40 * S)
    assert read_all(meter, T0 + 5.0) == dict.fromkeys(
        [T0 - k * S for k in (4, *range(20, 40))], Quality.PROFILE
    )


def test_an_outage_is_reported_though_the_meter_was_exchanged_in_it() -> None:
    now = T0 + 5.0
    driver = Meter(serial="B2", recorded={T0 - k * S: 9 for k in range(3)})
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=[T0 - 200 * S])
    meter = meter_of(driver, now, recalled=recalled, recover_s=96 * S, history_s=288 * S)
    read_all(meter, now)
    assert flags_by_end(meter.expire(now)) == {T0 - k * S: Quality.NO_DATA for k in range(96, 200)}


def test_only_a_new_meters_first_interval_is_marked_however_long_the_slices() -> None:
    """A mark takes the energy of its interval away; one at the end of a slice would do so twice."""
    driver = Meter(serial="B2", recorded={T0 - k * S: 50 - k for k in range(20)})
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=[T0 - 20 * S])
    meter = meter_of(driver, T0 + 5.0, recalled=recalled, recover_s=21 * S)
    got = read_all(meter, T0 + 5.0, most=6)
    marked = [end for end, flags in got.items() if flags & Quality.METER_EXCHANGED]
    assert marked == [T0 - 19 * S]


def test_holes_that_left_the_window_while_the_agent_was_off_are_reported_and_filled() -> None:
    now = T0 + 5.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(300)})
    known = [T0 - k * S for k in range(300) if not 120 <= k < 150]
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=known)
    meter = meter_of(driver, now, recalled=recalled, recover_s=96 * S, history_s=288 * S)
    holes = [T0 - k * S for k in range(149, 119, -1)]
    assert flags_by_end(meter.expire(now)) == dict.fromkeys(holes, Quality.NO_DATA)
    assert read_all(meter, now) == dict.fromkeys(holes, Quality.PROFILE)


def test_an_agent_that_was_off_for_a_month_fills_all_that_the_meter_has() -> None:
    day, now = 96, T0 + 5.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(40 * day)})
    known = [T0 - k * S for k in range(30 * day, 34 * day)]
    recalled = Recalled(serial="A1", channels=0b111011, ends_utc_s=known)
    meter = meter_of(driver, now, recalled=recalled, recover_s=7 * 86_400, history_s=62 * 86_400)
    meter.expire(now)
    got = read_all(meter, now, most=day)
    assert got == dict.fromkeys((T0 - k * S for k in range(30 * day)), Quality.PROFILE)


def test_what_an_hourly_profile_lacks_is_asked_again_in_few_requests() -> None:
    now = T0 + S - 1.0
    driver = Meter(recorded={T0 - k * S: 9 for k in range(0, 192, 4)})
    meter = meter_of(driver, now, recover_s=192 * S, history_s=400 * S)
    read_all(meter, now)
    asked = len(driver.asked)
    driver.recorded |= {T0 + k * S: 9 for k in range(1, 97)}
    meter.expire(now + 86_400)
    assert set(read_all(meter, now + 86_400, 192)) == {T0 + k * S for k in range(1, 97)}
    assert len(driver.asked) - asked <= 3


def test_a_meter_whose_first_counters_come_late_is_asked_for_the_earlier_ones_within_hours() -> (
    None
):
    """As one whose profile holds energies, until its registers have told enough."""
    driver = Meter()
    meter = meter_of(driver, T0 + 5.0, recover_s=96 * S, history_s=192 * S)
    got: dict[int, int] = {}
    for step in range(12):
        now = T0 + step * S + 200.0
        if step == 3:
            driver.recorded |= {T0 + k * S: 9 for k in range(-96, 12)}
        got |= read_all(meter, now)
        meter.expire(now)
    assert [got[T0 + k * S] for k in range(-80, 12)] == [Quality.PROFILE] * 92
