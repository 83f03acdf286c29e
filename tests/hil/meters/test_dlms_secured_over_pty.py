"""Ciphered associations with simulated meters over a real serial line (a PTY pair)."""

from __future__ import annotations

import threading

import pytest

from agent.dlms import axdr
from agent.dlms.client import Client, read_counter
from agent.dlms.errors import CounterBehind
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.security.settings import Security
from agent.line.serial_port import SerialPort
from hil.line.pty import LineLoop, PtyLine
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.test_dlms_bench_meters import (
    ADDRESS,
    COUNTER,
    SERIAL,
    TEXT,
    Counter,
    StoppedClock,
    meter_with,
    security_with,
)

BAUD = 115200


@pytest.mark.parametrize(
    "way", [("hls-gmac", "global", 0), ("hls-gmac", "dedicated", 2), ("lls", "general-global", 0)]
)
def test_a_meter_ahead_in_counters_is_caught_up_with_and_then_read_and_written(tmp_path, way):
    meter = meter_with(
        *way, general_blocks=way[1] == "general-global", max_pdu=200, client_window=3
    )
    meter.security.heard = 70_000
    link = tmp_path / "line"
    stop = threading.Event()
    line = PtyLine(link, DlmsBus({ADDRESS: meter}, StoppedClock()), baud=BAUD)
    loop = threading.Thread(target=LineLoop([line]).run, args=(stop,))
    loop.start()
    try:
        with SerialPort(str(link), BAUD) as port:
            catch_up_and_write(port, meter, way)
    finally:
        stop.set()
        loop.join()


def catch_up_and_write(port: SerialPort, meter: DlmsMeter, way: tuple[str, str, int]) -> None:
    counter = Counter(12)
    security, text = security_with(*way, counter=counter), bytes(range(256)) * 3
    with pytest.raises(CounterBehind), a_client(port, security):
        pass
    counter.raise_above(read_counter(a_client(port, Security(), sap=16), COUNTER))
    with a_client(port, security) as client:
        client.set(TEXT, axdr.octets(text))
        assert client.get_many([SERIAL, TEXT]) == [b"LS0000001", text]
    assert 70_000 < meter.security.heard <= counter.last


def a_client(port: SerialPort, security: Security, sap: int = 1) -> Client:
    carrier = HdlcCarrier(
        port,
        LinkSettings(window=3),
        client_address=client_address(sap),
        server_address=server_address(ADDRESS),
        name="meter",
    )
    return Client(carrier, security, name="meter", general_blocks=True)
