"""The driver and the simulated meters over a real serial line (a PTY pair)."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.dlms.driver import DlmsDriver
from agent.driver import MeterSilent
from agent.line.serial_port import SerialPort
from hil.line.pty import LineLoop, PtyLine
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter

BAUD = 115200
LAST_END_UTC_S = 1_763_820_003 - 1_763_820_003 % 900


@pytest.fixture
def port(bench, tmp_path: Path) -> Iterator[SerialPort]:
    link = tmp_path / "dlms"
    line = PtyLine(link, bench.wire.bus, baud=BAUD, paced=True)
    stop = threading.Event()
    loop = threading.Thread(target=LineLoop([line]).run, args=(stop,))
    loop.start()
    try:
        with SerialPort(str(link), BAUD) as port:
            yield port
    finally:
        stop.set()
        loop.join()


def a_driver(bench, port: SerialPort, address: str) -> DlmsDriver:
    link = dataclasses.replace(bench.meter_class.link, response_s=0.3)
    meter_class = dataclasses.replace(bench.meter_class, link=link)
    return DlmsDriver.on_port(
        port, meter_class, bench.clock, server_address=address, password=b"loadscape"
    )


def test_two_meters_of_one_line_are_read_at_line_speed(bench, port):
    first = LAST_END_UTC_S - 86400
    for address, serial in (("1/17", "LS0012345"), ("1/18", "LS0012346")):
        driver = a_driver(bench, port, address)
        assert driver.sample().serial == serial
        rows = driver.profile(first, LAST_END_UTC_S)
        assert [row.end_utc_s for row in rows] == list(range(first, LAST_END_UTC_S + 1, 900))
        assert driver.serial == serial


def test_a_meter_that_is_not_there_costs_its_tries_and_no_more(bench, port):
    began_s = time.monotonic()
    with pytest.raises(MeterSilent):
        a_driver(bench, port, "1/99").sample()
    assert time.monotonic() - began_s < 3 * 0.3 + 1.0
    assert a_driver(bench, port, "1/17").sample().serial == "LS0012345"


def test_a_slow_meter_is_waited_for(bench, port):
    bench.wire.bus._reaction_s = 0.1
    assert a_driver(bench, port, "1/17").sample().serial == "LS0012345"


def test_a_meter_with_128_byte_frames_is_read_too(bench, port, tmp_path):
    small = DlmsBus({"1/17": DlmsMeter(bench.meter.shown, longest_info=128, window=1)}, bench.clock)
    bench.wire.bus._stations = small._stations
    first = LAST_END_UTC_S - 40 * 900
    assert len(a_driver(bench, port, "1/17").profile(first, LAST_END_UTC_S)) == 41
