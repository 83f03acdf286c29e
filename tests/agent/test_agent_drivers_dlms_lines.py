"""A DLMS driver as configured reads behind a TCP gateway and behind an optical head."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from drivers_dlms_bench import (
    config,
    meter,
)

from agent.drivers import build_driver, open_line
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock


class Gateway:
    """A transparent gateway on this machine, with one bus of simulated meters behind it."""

    def __init__(self, bus: DlmsBus) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.number = self.listener.getsockname()[1]
        self._bus = bus
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(4096):
                    for answer in self._bus.receive(data):
                        connection.sendall(answer.data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


def test_a_meter_behind_a_transparent_gateway_is_read_as_on_a_serial_line(tmp_path: Path) -> None:
    (tmp_path / "meters.toml").write_text('[lls]\npassword = "loadscape"\n')
    (tmp_path / "meters.toml").chmod(0o600)
    gateway = Gateway(DlmsBus({"1/17": DlmsMeter(Steady("D0000017"))}, SystemClock()))
    line = f'port = "127.0.0.1:{gateway.number}"\nprotocol = "dlms-tcp"\nframing = "hdlc"\n'
    there = config(tmp_path, line, meter("idis_residential", "lls"))
    apdus: list[tuple[str, int]] = []
    port = open_line(there.lines[0])
    try:
        driver = build_driver(
            there,
            there.lines[0],
            there.meters[0],
            port,
            SystemClock(),
            observe_apdu=lambda direction, _, plain: apdus.append((direction, plain[0])),
        )
        assert driver.sample().serial == "D0000017"
    finally:
        port.close()
        gateway.close()
    assert apdus[:3] == [("sent", 0x60), ("heard", 0x61), ("sent", 0xC0)]


class Woken:
    """A bus behind an optical head: it identifies itself, confirms, and speaks HDLC after that."""

    def __init__(self, bus: DlmsBus, address: str) -> None:
        self._bus = bus
        self._request = f"/?{address}!\r\n".encode()
        self.heard: list[bytes] = []

    def receive(self, data: bytes) -> list[Answer]:
        line = bytes(byte & 0x7F for byte in data)
        if line in (self._request, b"\x06252\r\n"):
            self.heard.append(line)
            return [Answer(b"/LSC5\\2METER\r\n" if line[:1] == b"/" else line, 0.3)]
        return self._bus.receive(data)


@pytest.mark.parametrize("address", ["", "00012345"])
def test_a_meter_that_must_be_woken_is_read_after_a_mode_e_opening(
    tmp_path: Path, address: str
) -> None:
    (tmp_path / "meters.toml").write_text('[lls]\npassword = "loadscape"\n')
    (tmp_path / "meters.toml").chmod(0o600)
    bus = Woken(DlmsBus({"1/17": DlmsMeter(Steady("D0000017"))}, SystemClock()), address)
    line = f'port = "{tmp_path}/head"\nprotocol = "dlms"\nopening = "mode-e"\n'
    more = f'device_address = "{address}"\n' if address else ""
    there = config(tmp_path, line, meter("idis_residential", "lls", more=more))
    port = open_line(there.lines[0])
    with served(PtyLine(tmp_path / "head", bus, baud=9600, paced=False)):
        try:
            (only,) = there.meters
            driver = build_driver(there, there.lines[0], only, port, SystemClock())
            assert driver.sample().serial == "D0000017"
        finally:
            port.close()
    assert bus.heard == [f"/?{address}!\r\n".encode(), b"\x06252\r\n"]
