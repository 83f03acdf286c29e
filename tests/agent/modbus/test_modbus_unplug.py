"""An adapter that is pulled out and put back: the PTY is removed and made anew under its name."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.driver import ReadError
from agent.line.port import PortLost
from agent.line.serial_port import SerialPort
from agent.modbus.exchange import UnitExchange
from agent.modbus.transaction import Answered, ReadRequest
from ext.checksum import crc16_modbus
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer

BAUD = 19200
BACK_WITHIN_S = 5.0
REQUESTS = [ReadRequest(7, 4, address, 2) for address in (0, 72, 74)]


class Telltale:
    """A unit whose registers show the address that was asked; `asked` is set at each request."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked = threading.Event()
        self._delay_s = delay_s

    def receive(self, data: bytes) -> list[Answer]:
        self.asked.set()
        body = data[:2] + bytes([4]) + 2 * data[2:4]
        return [Answer(body + crc16_modbus(body).to_bytes(2, "little"), self._delay_s)]


class Reader(threading.Thread):
    """Reads in turn until `stop`, as the agent does: a lost port is opened again at the next read.

    `right` counts the right values; `wrong` holds the others.
    """

    def __init__(self, path: Path, response_timeout_s: float = 0.3) -> None:
        super().__init__(daemon=True)
        self.port = SerialPort(str(path), BAUD)
        self.right = threading.Semaphore(0)
        self.wrong: list[bytes] = []
        self.lost = threading.Event()
        self.stop = threading.Event()
        self.idle_s = 0.01
        self._exchange = UnitExchange(self.port, 7, response_timeout_s=response_timeout_s)

    def run(self) -> None:
        while not self.stop.is_set():
            for request in REQUESTS:
                self._read(request)
        self.port.close()

    def _read(self, request: ReadRequest) -> None:
        try:
            verdict = self._exchange.ask(request, 2)
        except PortLost:
            self.lost.set()
            self.stop.wait(0.1)
            return
        except ReadError:
            return
        assert isinstance(verdict, Answered)
        if verdict.data == 2 * request.address.to_bytes(2):
            self.right.release()
        else:
            self.wrong.append(verdict.data)
        self.stop.wait(self.idle_s)


def is_back(reader: Reader) -> bool:
    return reader.right.acquire(timeout=BACK_WITHIN_S)


def on_line(folder: Path, responder: Telltale) -> PtyLine:
    return PtyLine(folder / "line", responder, baud=BAUD)


def pulled_out_and_put_back(
    folder: Path, first: Telltale, pull: Callable[[Reader], None], *, response_timeout_s: float
) -> Reader:
    """A reader that has lost its port when `pull` says so, and has read again after that."""
    link = folder / "line"
    reader = Reader(link, response_timeout_s)
    with ExitStack() as plugged:
        plugged.enter_context(served(on_line(folder, first)))
        reader.start()
        pull(reader)
    assert reader.lost.wait(BACK_WITHIN_S)
    with served(on_line(folder, Telltale())):
        assert is_back(reader)
        for _ in range(2 * len(REQUESTS)):
            assert is_back(reader)
        reader.stop.set()
        reader.join()
    return reader


def test_reading_goes_on_after_an_unplug_during_a_read(tmp_path: Path) -> None:
    slow = Telltale(delay_s=1.0)
    reader = pulled_out_and_put_back(
        tmp_path, slow, lambda reader: assert_asked(slow), response_timeout_s=2.0
    )
    assert reader.wrong == []


def assert_asked(meter: Telltale) -> None:
    assert meter.asked.wait(BACK_WITHIN_S)


def test_reading_goes_on_after_an_unplug_while_idle(tmp_path: Path) -> None:
    def pull(reader: Reader) -> None:
        assert is_back(reader)
        reader.idle_s = 0.5

    reader = pulled_out_and_put_back(tmp_path, Telltale(), pull, response_timeout_s=0.3)
    assert reader.wrong == []


def test_reading_goes_on_after_an_unplug_during_a_write(tmp_path: Path) -> None:
    link = tmp_path / "line"
    master, slave = os.openpty()
    tty.setraw(slave)
    link.symlink_to(os.ttyname(slave))
    port = SerialPort(str(link), BAUD)
    port.open()
    lost: list[PortLost] = []

    def write_more_than_fits() -> None:
        try:
            port.write(bytes(1 << 20))
        except PortLost as error:
            lost.append(error)

    writing = threading.Thread(target=write_more_than_fits)
    writing.start()
    # Once bytes have come through, the write is under way; nobody takes the rest.
    assert os.read(master, 1) == b"\0"
    os.close(slave)
    os.close(master)
    writing.join(BACK_WITHIN_S)
    assert not writing.is_alive()
    assert len(lost) == 1
    link.unlink()
    exchange = UnitExchange(port, 7, response_timeout_s=0.3)
    began_s = time.monotonic()
    with served(on_line(tmp_path, Telltale())):
        for request in REQUESTS:
            verdict = exchange.ask(request, 2)
            assert verdict == Answered(2 * request.address.to_bytes(2))
        assert time.monotonic() - began_s < BACK_WITHIN_S
    port.close()


def test_an_answer_to_the_question_before_the_unplug_is_not_the_answer_to_the_next(
    tmp_path: Path,
) -> None:
    # The adapter goes, the meter stays: its answer is on the line when the adapter is back.
    master, slave = os.openpty()
    tty.setraw(slave)
    link = tmp_path / "line"
    link.symlink_to(os.ttyname(slave))
    port = SerialPort(str(link), BAUD)
    exchange = UnitExchange(port, 7, response_timeout_s=0.3)
    stale = Telltale().receive(REQUESTS[0].frame)[0].data

    with pytest.raises(ReadError):
        exchange.ask(REQUESTS[0], 1)
    port.close()
    port.open()
    timer = threading.Timer(0.3, os.write, (master, stale))
    timer.start()
    with pytest.raises(ReadError):
        exchange.ask(REQUESTS[1], 1)
    assert exchange.rejected["late"] == 1
    timer.join()
    os.close(master)
    os.close(slave)
