"""The serial port of the agent, on bare PTYs."""

import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.line.port import PortLost
from agent.line.serial_port import SerialPort


@dataclass
class FarEnd:
    """The other end of a port's line."""

    path: str
    descriptor: int

    def send_singly(self, data: bytes, gap_s: float) -> threading.Thread:
        def trickle() -> None:
            for byte in data:
                os.write(self.descriptor, bytes([byte]))
                time.sleep(gap_s)

        thread = threading.Thread(target=trickle)
        thread.start()
        return thread


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield FarEnd(os.ttyname(slave), master)
    os.close(master)
    os.close(slave)


def test_the_time_of_a_character_counts_parity_and_stop_bits() -> None:
    assert SerialPort("/dev/null", 9600).char_s == pytest.approx(10 / 9600)
    assert SerialPort("/dev/null", 9600, "E").char_s == pytest.approx(11 / 9600)
    assert SerialPort("/dev/null", 2400, "N", 2).char_s == pytest.approx(11 / 2400)


def test_a_read_ends_at_its_deadline_with_what_has_come(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 9600) as port:
        os.write(far_end.descriptor, b"half")
        start_s = time.monotonic()
        assert port.read(8, start_s + 0.1) == b"half"
        assert 0.095 <= time.monotonic() - start_s < 0.3


def test_a_read_whose_deadline_is_past_takes_what_waits(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 9600) as port:
        os.write(far_end.descriptor, b"waits")
        select.select([port.fileno()], [], [], 1)
        assert port.read(8, time.monotonic() - 1) == b"waits"


def test_a_read_sleeps_until_the_last_byte_is_due(far_end: FarEnd) -> None:
    data = bytes(range(100))
    with SerialPort(far_end.path, 4800) as port:
        thread = far_end.send_singly(data, 10 / 4800)
        before_s = time.thread_time()
        answer = b""
        deadline_s = time.monotonic() + 3
        while len(answer) < len(data):
            answer += port.read(len(data) - len(answer), deadline_s)
        spent_s = time.thread_time() - before_s
        thread.join()
    assert answer == data
    assert spent_s < 0.01


def test_discard_empties_the_line_without_waiting(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 9600) as port:
        assert port.discard() == b""
        os.write(far_end.descriptor, b"stale")
        select.select([port.fileno()], [], [], 1)
        assert port.discard() == b"stale"
        assert port.discard() == b""


def test_opening_drops_what_an_earlier_reader_left(far_end: FarEnd) -> None:
    os.write(far_end.descriptor, b"stale")
    with SerialPort(far_end.path, 9600) as port:
        assert port.read(1, time.monotonic() + 0.05) == b""


def test_a_port_belongs_to_one_program(far_end: FarEnd) -> None:
    with (
        SerialPort(far_end.path, 9600),
        pytest.raises(PortLost, match="no other program holds the port"),
    ):
        SerialPort(far_end.path, 9600).open()


def test_a_missing_port_is_named_with_a_remedy(tmp_path: Path) -> None:
    port = SerialPort(str(tmp_path / "ttyUSB9"), 9600)
    with pytest.raises(PortLost, match=r"ttyUSB9: expected a free serial port .*check the cable"):
        port.write(b"?")


def test_a_lost_port_opens_again_at_its_next_use(tmp_path: Path) -> None:
    link = tmp_path / "line"
    master, slave = os.openpty()
    tty.setraw(slave)
    link.symlink_to(os.ttyname(slave))
    port = SerialPort(str(link), 9600)
    port.write(b"first")
    os.close(master)
    os.close(slave)
    with pytest.raises(PortLost):
        port.read(1, time.monotonic() + 1)
    with pytest.raises(PortLost):
        port.read(1, time.monotonic() + 1)
    master, slave = os.openpty()
    tty.setraw(slave)
    link.unlink()
    link.symlink_to(os.ttyname(slave))
    port.write(b"second")
    assert os.read(master, 64) == b"second"
    port.close()
    os.close(master)
    os.close(slave)


def test_even_parity_is_taken_where_a_pty_stands_in_for_a_line(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 9600, "E") as port:
        port.write(b"8E1")
        assert os.read(far_end.descriptor, 64) == b"8E1"
