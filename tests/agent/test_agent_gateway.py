"""A line whose meters lie behind a gateway: intervals close, also after the gateway was away."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import pytest
from gateway_bench import Server, served

from agent.health import Counters, Faults
from agent.interval.sampled import SampledMeter
from agent.modbus.driver import ModbusDriver
from agent.modbus.gateway import TcpGateway
from agent.modbus.profile import shipped
from agent.poll.thread import LineThread
from agent.store.rows import EdgeRows, MeterRows
from wire.channels import SAMPLED_SCHEMA
from wire.clock import SystemClock
from wire.quality import Quality

S = 3
"""Seconds of an interval."""
UNITS = range(1, 7)
CLOCK = SystemClock()
BEGAN_S = time.time()
KWH_PER_S = 0.02
_IMPORT = SAMPLED_SCHEMA.index("import_wh")
_FLAGS = SAMPLED_SCHEMA.index("flags")


def import_kwh(unit: int) -> float:
    """Rises evenly, by 20 Wh a second; far coarser than the meter's float."""
    return 100.0 * unit + KWH_PER_S * (time.time() - BEGAN_S)


class Line:
    """The thread of one line and what it handed over."""

    def __init__(self, server: Server) -> None:
        self.gateway = TcpGateway("127.0.0.1", server.port, char_s=11 / 9600)
        self.handed: queue.Queue[EdgeRows | list[MeterRows]] = queue.Queue()
        self.counters, self.faults = Counters(), Faults()
        self.stop = threading.Event()
        self.thread = LineThread(
            "gw",
            [self._meter(unit) for unit in UNITS],
            open_port=self.gateway.open,
            close_port=self.gateway.close,
            clock=CLOCK,
            interval_s=S,
            sample_s=1,
            hand_over=self.handed.put,
            counters=self.counters,
            faults=self.faults,
            stop=self.stop,
        )
        self.thread.start()

    def _meter(self, unit: int) -> SampledMeter:
        profile = shipped("eastron_sdm120")
        return SampledMeter(
            f"m{unit}",
            ModbusDriver.behind_gateway(self.gateway, unit, profile, CLOCK),
            interval_s=S,
            recover_s=3600,
            now_utc_s=CLOCK.now_utc_s(),
            recalled=None,
        )

    def next_edge(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """What was closed up to and with the next edge: (meter, end) -> values."""
        closed: dict[tuple[str, int], tuple[int, ...]] = {}
        while True:
            handed = self.handed.get(timeout=4 * S)
            for meter in handed.rows if isinstance(handed, EdgeRows) else handed:
                closed.update({(meter.epoch.meter, end): values for end, values in meter.rows})
            if isinstance(handed, EdgeRows):
                return closed


@pytest.fixture
def server() -> Iterator[Server]:
    with served(UNITS, import_kwh) as there:
        yield there


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    there = Line(server)
    yield there
    there.stop.set()
    there.thread.join(10)
    assert not there.thread.is_alive()


def wrong(closed: dict[tuple[str, int], tuple[int, ...]]) -> list[str]:
    """Closed registers that are not what the meter showed at the edge."""
    found = []
    for (meter, end), values in closed.items():
        if values[_FLAGS] & Quality.NO_DATA:
            continue
        true_wh = 1000 * (100.0 * int(meter[1:]) + KWH_PER_S * (end - BEGAN_S))
        # A twentieth of a second of transmission, and the steps of a float32 of some 500 kWh.
        if abs(values[_IMPORT] - true_wh) > 1000 * KWH_PER_S * 0.2 + 0.1:
            found.append(f"{meter} at {end}: {values[_IMPORT]} Wh, true {true_wh:.1f} Wh")
    return found


def test_intervals_close_behind_a_gateway_and_again_after_it_was_away(
    server: Server, line: Line
) -> None:
    line.next_edge()
    whole = {**line.next_edge(), **line.next_edge()}
    assert {meter for meter, _ in whole} == {f"m{unit}" for unit in UNITS}
    assert not [end for end, values in whole.items() if values[_FLAGS] & Quality.NO_DATA]
    assert wrong(whole) == []

    server.stop()
    away = line.next_edge()
    server.start()
    back = {**line.next_edge(), **line.next_edge(), **line.next_edge()}
    assert wrong({**away, **back}) == []
    newest = max(end for _, end in back)
    for unit in UNITS:
        assert not back[f"m{unit}", newest][_FLAGS] & Quality.NO_DATA
    assert line.counters.snapshot()["ports_lost_total"] == 1
    assert line.thread.open
