"""What an untrusted clock has stamped is held, stamped anew once, and never lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from agent_bench import (
    LONG,
    T0,
    Central,
    S,
    SetClock,
    edge,
    epoch,
    row,
    sealed_of,
    settings_of,
    start_writer,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.clock_trust import BUILT_UTC_S, AgentClock
from agent.device_log import DeviceLog
from agent.health import Counters, Faults
from agent.store import holding
from agent.store.custody import Custody
from agent.store.rows import EdgeRows, MeterRows, Values
from agent.store.writer import Writer
from wire.quality import Quality

LIVE = 0
UNTRUSTED = int(Quality.CLOCK_UNTRUSTED)


class SetTrust:
    """The trust in a clock that the test sets, and the time since the machine was started."""

    def __init__(self, clock: SetClock, *, boot: bytes = b"thisboot") -> None:
        self.clock = clock
        self.trusted = False
        self.boot = boot
        self.up_s = 100.0
        self.seen: list[tuple[int, float | None]] = []

    def boottime_s(self) -> float:
        return self.up_s

    def witness(self, utc_s: int, span_s: float | None) -> None:
        self.seen.append((utc_s, span_s))

    def passes(self, seconds: float) -> None:
        self.up_s += seconds
        self.clock.utc_s += seconds


def live(end: int, wh: int) -> EdgeRows:
    return EdgeRows("l1", end, [MeterRows(epoch("m1"), [row(end, wh, LIVE)])])


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T0 + 5.0)


@pytest.fixture
def trust(clock: SetClock) -> SetTrust:
    return SetTrust(clock)


@pytest.fixture
def central() -> Central:
    return Central()


@pytest.fixture
def writer(tmp_path: Path, central: Central, clock: SetClock, trust: SetTrust) -> Iterator[Writer]:
    started = start_writer(tmp_path / "data", central.enrol(tmp_path), clock, trust=trust)
    yield started
    started.finish(5)


def until(condition: Callable[[], object]) -> None:
    ends_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.01)  # the writer looks after held rows once a second


def holds(writer: Writer, count: int) -> bool:
    return writer.view.held == count


def hold(writer: Writer, trust: SetTrust, count: int) -> None:
    """`count` intervals end, each 5 s before it is handed over."""
    for number in range(count):
        writer.hand_over(live(T0 + number * S, 1000 + number))
        until(partial(holds, writer, number + 1))
        trust.passes(S)


def taken(writer: Writer, central: Central) -> dict[int, tuple[int, ...]]:
    """By end: (Wh, flags) of all that the outbox holds."""
    for sealed in sealed_of(writer):
        central.take(sealed)
    return {end: (v[0], v[-1]) for (_, _, end), v in sorted(central.values.items())}


def test_live_intervals_are_held_while_nobody_vouches_and_profiles_are_not(
    writer: Writer, central: Central, trust: SetTrust
) -> None:
    hold(writer, trust, 2)
    writer.hand_over(edge(T0 + 2 * S, "m2"))
    until(lambda: writer.view.last_seq)
    assert {meter for meter, _, _ in central.values} == set()
    taken(writer, central)
    assert {meter for meter, _, _ in central.values} == {"m2"}
    assert writer.view.held == 2


@pytest.mark.parametrize("days", [-3, 0, 400])
def test_they_are_stamped_anew_when_the_clock_becomes_right(
    writer: Writer, central: Central, trust: SetTrust, days: int
) -> None:
    hold(writer, trust, 3)
    trust.clock.utc_s += days * 86_400
    trust.trusted = True
    until(lambda: writer.view.held == 0)
    shift = days * 86_400
    assert taken(writer, central) == {T0 + shift + k * S: (1000 + k, LIVE) for k in range(3)}


def test_an_end_that_is_not_on_an_edge_goes_to_the_nearest_and_stays_flagged(
    writer: Writer, central: Central, trust: SetTrust
) -> None:
    hold(writer, trust, 2)
    trust.clock.utc_s += 10 * S + 200
    trust.trusted = True
    until(lambda: writer.view.held == 0)
    assert taken(writer, central) == {
        T0 + 10 * S: (1000, UNTRUSTED),
        T0 + 11 * S: (1001, UNTRUSTED),
    }


def test_what_was_cut_before_is_not_touched_and_a_true_value_stays(
    writer: Writer, central: Central, trust: SetTrust
) -> None:
    trust.trusted = True
    writer.hand_over(live(T0, 7))
    until(lambda: writer.view.last_seq)
    trust.trusted = False
    trust.clock.utc_s += S
    writer.hand_over(live(T0 + S, 8))
    until(lambda: writer.view.held == 1)
    trust.clock.utc_s -= S
    trust.trusted = True
    until(lambda: writer.view.held == 0)
    assert taken(writer, central) == {T0: (7, LIVE)}


def test_what_an_earlier_start_of_the_machine_held_is_cut_as_it_is_and_flagged(
    tmp_path: Path, central: Central, clock: SetClock, trust: SetTrust
) -> None:
    keyring = central.enrol(tmp_path)
    first = start_writer(tmp_path / "data", keyring, clock, trust=trust)
    hold(first, trust, 1)
    first.finish(5)
    clock.utc_s += 50 * S
    again = SetTrust(clock, boot=b"nextboot")
    again.trusted = True
    second = start_writer(tmp_path / "data", keyring, clock, trust=again)
    until(lambda: second.view.held == 0 and second.view.last_seq)
    assert taken(second, central) == {T0: (1000, UNTRUSTED)}
    second.finish(5)


def test_the_same_start_of_the_machine_is_known_after_the_agent_was_started_again(
    tmp_path: Path, central: Central, clock: SetClock, trust: SetTrust
) -> None:
    keyring = central.enrol(tmp_path)
    first = start_writer(tmp_path / "data", keyring, clock, trust=trust)
    hold(first, trust, 1)
    first.finish(5)
    clock.utc_s += 50 * S
    trust.trusted = True
    second = start_writer(tmp_path / "data", keyring, clock, trust=trust)
    until(lambda: second.view.held == 0 and second.view.last_seq)
    assert taken(second, central) == {T0 + 50 * S: (1000, LIVE)}
    second.finish(5)


@pytest.mark.parametrize("bound", ["rows", "time"])
def test_nothing_is_held_for_ever(
    writer: Writer,
    central: Central,
    trust: SetTrust,
    bound: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if bound == "rows":
        monkeypatch.setattr(holding, "MOST_ROWS", 3)
    for number in range(3):
        writer.hand_over(live(T0 + number * S, 1000 + number))
    if bound == "time":
        until(lambda: writer.view.held == 3)
        trust.passes(holding.LONGEST_S + 3 * S)
    until(lambda: writer.view.last_seq)
    assert taken(writer, central) == {T0 + k * S: (1000 + k, UNTRUSTED) for k in range(3)}
    assert not trust.trusted


def test_a_receipt_tells_the_time_since_its_batch_was_cut(
    writer: Writer, central: Central, trust: SetTrust
) -> None:
    writer.hand_over(edge(T0, "m1"))
    until(lambda: writer.view.last_seq)
    taken(writer, central)
    writer.receipt(central.receipt())
    until(lambda: len(trust.seen) == 2)
    assert trust.seen[0] == (0, None)
    committed_utc_s, span_s = trust.seen[1]
    assert committed_utc_s == T0
    assert span_s is not None
    assert 0 <= span_s < 20


@pytest.mark.parametrize("off_s", [-T0, LONG - T0 + 100 * 86_400, 1 << 40])
def test_a_machine_whose_clock_is_wrong_learns_the_time_from_central_alone(
    tmp_path: Path, central: Central, off_s: float
) -> None:
    """The start is told in a batch; the receipt for it shows the time; held rows follow."""
    log = DeviceLog()
    up_s = [50.0]
    clock = AgentClock(
        floor_utc_s=0.0,
        sources={},
        tell=log.add,
        system_utc_s=lambda: T0 + off_s + up_s[0],
        boottime_s=lambda: up_s[0],
        boot=b"thisboot",
    )
    log.add("start", "version=1")
    writer = start_writer(
        tmp_path / "data", central.enrol(tmp_path), clock, trust=clock, device_log=log
    )
    until(lambda: writer.view.last_seq == 1)
    end = int(clock.now_utc_s()) // S * S
    writer.hand_over(live(end, 42))
    until(lambda: writer.view.held == 1)
    true_utc_s = max(T0, BUILT_UTC_S) + 200 * S + 3
    taken(writer, central)
    assert [entry.code for piece in central.log for entry in piece.entries] == ["start"]
    writer.receipt(replace(central.receipt(), committed_at_utc_s=true_utc_s))
    until(lambda: writer.view.held == 0)
    assert clock.trusted_by == "receipt"
    assert abs(clock.now_utc_s() - true_utc_s) < 30
    writer.finish(5)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shift_s=st.integers(-20 * 86_400, 20 * 86_400), count=st.integers(1, 4))
def test_held_intervals_keep_their_order_and_distance_whatever_the_step(
    tmp_path_factory: pytest.TempPathFactory, shift_s: int, count: int
) -> None:
    folder = tmp_path_factory.mktemp("held")
    clock, central = SetClock(T0 + 5.0 + (count - 1) * S), Central()
    trust = SetTrust(clock)
    custody = Custody(
        settings_of(folder / "data"),
        clock=clock,
        keyring=central.enrol(folder),
        boot=b"boot0001",
        counters=Counters(),
        faults=Faults(),
        trust=trust,
    )
    rows: list[tuple[int, Values]] = [row(T0 + k * S, 1000 + k, LIVE) for k in range(count)]
    custody.commit([MeterRows(epoch("m1"), rows)], cut=True)
    assert not custody.settle_held()
    clock.utc_s += shift_s
    trust.trusted = True
    assert custody.settle_held()
    assert not custody.settle_held()
    for _, sealed in custody.sealed_after(custody.view().stream, 0, 100):
        central.take(sealed)
    custody.close()
    found = {end: values for (_, _, end), values in sorted(central.values.items())}
    assert [values[0] for values in found.values()] == [1000 + k for k in range(count)]
    first = min(found)
    assert list(found) == [first + k * S for k in range(count)]
    assert abs(first - (T0 + shift_s)) <= S / 2
