"""A line's thread with ports and meters that go away and come back."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.driver import CounterLimits, MeterRefused, MeterSilent, ProfileRow, Sample
from agent.health import Counters, Faults
from agent.interval.sampled import SampledMeter
from agent.line.port import PortLost
from agent.line.serial_port import SerialPort
from agent.modbus.driver import ModbusDriver
from agent.modbus.profile import shipped
from agent.poll.schedule import MeterOnLine
from agent.poll.thread import LineThread
from agent.store.rows import EdgeRows, MeterRows
from hil.line.pty import PtyLine, served
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SharedClock, SystemClock, set_shared_clock

INTERVAL_S = 900
EDGE = 1_767_225_600


@dataclass
class Scripted:
    """A meter whose every sample first does what the test says."""

    clock: SharedClock
    before: Callable[[float], None] = lambda now_utc_s: None
    keeps_profile: bool = False
    counter_limits: CounterLimits = field(default_factory=CounterLimits)
    deadlines_s: list[float] = field(default_factory=list)
    tells_serial: bool = False

    def serial(self, deadline_s: float = math.inf) -> str | None:
        return None

    def sample(self, *, identify: bool = False, deadline_s: float = math.inf) -> Sample:
        now_utc_s = self.clock.now_utc_s()
        self.deadlines_s.append(deadline_s - time.monotonic())
        self.before(now_utc_s)
        return Sample(round(now_utc_s * 1000), import_wh=int(now_utc_s) % 10**9, voltage_dv=2300)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        raise MeterRefused("it keeps no profile")


@dataclass
class Running:
    """A line's thread and what it handed over."""

    thread: LineThread
    handed: queue.Queue[EdgeRows | list[MeterRows]]
    counters: Counters
    faults: Faults

    def edge(self, end_utc_s: int, within_s: float = 10.0) -> EdgeRows:
        until_s = time.monotonic() + within_s
        while True:
            rows = self.handed.get(timeout=max(0.01, until_s - time.monotonic()))
            if isinstance(rows, EdgeRows) and rows.end_utc_s == end_utc_s:
                return rows

    def until(self, true: Callable[[], bool], within_s: float) -> float:
        """Wait for it; how long it took, s."""
        began_s = time.monotonic()
        while not true():
            assert time.monotonic() < began_s + within_s, self.faults.present()
            self.thread.join(0.01)
            assert self.thread.is_alive()
        return time.monotonic() - began_s

    def reads(self) -> float:
        return self.counters.snapshot()["reads_total"]


@contextmanager
def running(
    drivers: Mapping[str, Scripted | ModbusDriver],
    clock: SharedClock | SystemClock,
    *,
    open_port: Callable[[], None] = lambda: None,
    sample_s: int = 60,
    known: MeterOnLine | None = None,
) -> Iterator[Running]:
    handed: queue.Queue[EdgeRows | list[MeterRows]] = queue.Queue()
    counters, faults, stop = Counters(), Faults(), threading.Event()
    thread = LineThread(
        "a",
        [
            SampledMeter(
                name,
                driver,
                interval_s=INTERVAL_S,
                recover_s=86_400,
                now_utc_s=clock.now_utc_s(),
                recalled=None,
            )
            for name, driver in drivers.items()
        ],
        open_port=open_port,
        close_port=lambda: None,
        clock=clock,
        interval_s=INTERVAL_S,
        sample_s=sample_s,
        hand_over=handed.put,
        counters=counters,
        faults=faults,
        stop=stop,
        known=dict.fromkeys(drivers, known) if known else None,
    )
    thread.start()
    try:
        yield Running(thread, handed, counters, faults)
    finally:
        stop.set()
        thread.join()


def clock_at(folder: Path, utc_s: float, speed: float = 1.0) -> SharedClock:
    set_shared_clock(folder / "clock.json", utc_s, speed)
    return SharedClock(folder / "clock.json")


def test_what_a_round_has_closed_is_handed_over_when_its_port_is_lost(tmp_path: Path) -> None:
    clock = clock_at(tmp_path, EDGE - 1.0)
    lost = threading.Event()

    def lose_once(now_utc_s: float) -> None:
        if now_utc_s >= EDGE and not lost.is_set():
            lost.set()
            raise PortLost("pulled out")

    drivers = {"m1": Scripted(clock), "m2": Scripted(clock, lose_once)}
    with running(drivers, clock) as line:
        rows = line.edge(EDGE)
        assert lost.is_set()
        assert {(group.epoch.meter, end) for group in rows.rows for end, _ in group.rows} == {
            ("m1", EDGE)
        }
        # The other one closes the interval as soon as the port is back.
        late = line.handed.get(timeout=5)
        assert isinstance(late, list)
        assert [(group.epoch.meter, group.rows[0][0]) for group in late] == [("m2", EDGE)]
    assert line.counters.snapshot()["ports_lost_total"] == 1


def test_edges_pass_while_a_port_is_away(tmp_path: Path) -> None:
    clock = clock_at(tmp_path, EDGE - 30.0, 600.0)

    def refuse() -> None:
        raise PortLost("not there")

    with running({"m1": Scripted(clock)}, clock, open_port=refuse) as line:
        for number in range(3):
            assert line.edge(EDGE + number * INTERVAL_S).line == "a"
        assert not line.thread.open
        assert line.faults.present() == {"line a": "not there"}


def test_a_read_in_order_gets_a_deadline_from_what_its_longest_read_takes(tmp_path: Path) -> None:
    clock = clock_at(tmp_path, EDGE + 100.0)
    driver = Scripted(clock)
    known = MeterOnLine(False, expected_s=0.2, longest_s=1.5)
    with running({"m1": driver}, clock, sample_s=1, known=known) as line:
        line.until(lambda: line.reads() >= 2, 10)
    assert all(2.9 < deadline_s <= 3.0 for deadline_s in driver.deadlines_s)


def test_a_meter_that_comes_back_is_read_within_seconds(tmp_path: Path) -> None:
    clock = clock_at(tmp_path, EDGE + 100.0)
    away = threading.Event()
    away.set()

    def be_away(now_utc_s: float) -> None:
        if away.is_set():
            raise MeterSilent("no answer")

    drivers = {"m1": Scripted(clock), "m2": Scripted(clock, be_away)}
    with running(drivers, clock) as line:
        line.until(lambda: "meter m2" in line.faults.present(), 10)
        assert line.thread.failing == ["m2"]
        away.clear()
        assert line.until(lambda: not line.thread.failing, 10) < 6


def test_a_port_that_comes_back_is_read_again_within_two_seconds(tmp_path: Path) -> None:
    clock = SystemClock()
    there = tmp_path / "line"

    def pty() -> PtyLine:
        return PtyLine(
            there, ModbusBus({1: ModbusMeter("eastron_sdm630", Steady())}, clock), baud=115_200
        )

    port = SerialPort(str(there), 115_200)
    tries = 0

    def open_port() -> None:
        nonlocal tries
        tries += 1
        port.open()

    drivers = {"m1": ModbusDriver.on_port(port, 1, shipped("eastron_sdm630"), clock)}
    with running(drivers, clock, open_port=open_port, sample_s=1) as line:
        with served(pty()):
            line.until(lambda: line.reads() >= 2, 10)
        line.until(lambda: not line.thread.open, 10)
        # By the fourth try the pause between two is the longest.
        line.until(lambda: tries >= 5, 10)
        before = line.reads()
        with served(pty()):
            assert line.until(lambda: line.thread.open, 5) < 2
            # Then it listens for what the meter may still owe, 0.6 s, and reads.
            assert line.until(lambda: line.reads() > before, 5) < 2
            assert line.faults.present() == {}
    port.close()
