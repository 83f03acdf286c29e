"""One clock for several processes: the same instant, a change of speed, never later than now."""

import json
import time
from pathlib import Path

import pytest

from wire.clock import ClockFileError, SharedClock, SystemClock, set_shared_clock


def test_two_readers_of_one_clock_file_show_the_same_instant(tmp_path: Path) -> None:
    set_shared_clock(tmp_path / "clock.json", 1_700_000_000.0, 60.0)
    one, other = SharedClock(tmp_path / "clock.json"), SharedClock(tmp_path / "clock.json")
    assert one.now_utc_s() == pytest.approx(other.now_utc_s(), abs=60 * 0.05)
    assert one.now_utc_s() >= 1_700_000_000.0


def test_a_shared_clock_runs_as_many_times_as_fast_as_it_was_told(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    set_shared_clock(file, 1_700_000_000.0, 600.0)
    clock = SharedClock(file)
    before_utc_s, before_s = clock.now_utc_s(), time.monotonic()
    while time.monotonic() - before_s < 0.05:
        pass
    shown_s, elapsed_s = clock.now_utc_s() - before_utc_s, time.monotonic() - before_s
    assert shown_s == pytest.approx(600.0 * elapsed_s, rel=0.02)
    assert clock.real_s_until(clock.now_utc_s() + 600.0) == pytest.approx(1.0, rel=0.01)


def test_a_shared_clock_never_shows_an_instant_later_than_now_and_goes_on_at_1x(
    tmp_path: Path,
) -> None:
    file = tmp_path / "clock.json"
    set_shared_clock(file, time.time() + 3600.0, 60.0)
    clock = SharedClock(file)
    assert clock.now_utc_s() <= time.time()
    assert clock.real_s_until(time.time() + 10.0) == pytest.approx(10.0, abs=0.1)


def test_the_time_until_an_instant_beyond_now_counts_the_rest_at_1x(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    set_shared_clock(file, time.time() - 600.0, 60.0)
    clock = SharedClock(file)
    assert clock.real_s_until(time.time() + 5.0) == pytest.approx(600.0 / 60.0 + 5.0, rel=0.05)


def test_a_change_of_the_clock_reaches_a_reader(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    set_shared_clock(file, 1_600_000_000.0, 1.0)
    clock = SharedClock(file)
    assert clock.now_utc_s() < 1_600_000_100.0
    set_shared_clock(file, 1_650_000_000.0, 1.0)
    deadline_s = time.monotonic() + 2.0
    while clock.now_utc_s() < 1_650_000_000.0:
        assert time.monotonic() < deadline_s, "the change was not seen within 2 s"


def test_a_clock_that_stands_still_never_reaches_a_later_instant(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    set_shared_clock(file, 1_600_000_000.0, 0.0)
    clock = SharedClock(file)
    assert clock.real_s_until(1_600_000_001.0) == float("inf")
    assert clock.real_s_until(1_600_000_000.0) <= 0.0


def test_a_clock_file_with_something_else_in_it_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    file.write_text(json.dumps({"speed": "fast"}))
    with pytest.raises(ClockFileError, match=r"clock\.json.*anchor_monotonic_s"):
        SharedClock(file)


def test_the_system_clock_shows_the_systems_utc() -> None:
    assert SystemClock().now_utc_s() == pytest.approx(time.time(), abs=0.1)
    assert SystemClock().real_s_until(time.time() + 2.0) == pytest.approx(2.0, abs=0.1)
