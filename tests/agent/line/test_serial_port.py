"""The serial port of the agent, on bare PTYs."""

import fcntl
import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.line import names
from agent.line.port import PortLost
from agent.line.rs485 import Rs485
from agent.line.serial_port import SerialPort


@dataclass
class FarEnd:
    """The other end of a port's line."""

    path: str
    descriptor: int

    def unplug(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

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
    far_end = FarEnd(os.ttyname(slave), master)
    yield far_end
    far_end.unplug()
    os.close(slave)


def test_the_time_of_a_character_counts_parity_and_stop_bits() -> None:
    assert SerialPort("/dev/null", 9600).char_s == pytest.approx(10 / 9600)
    assert SerialPort("/dev/null", 9600, "E").char_s == pytest.approx(11 / 9600)
    assert SerialPort("/dev/null", 2400, "N", 2).char_s == pytest.approx(11 / 2400)


def test_a_read_of_a_silent_line_ends_at_its_deadline(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 9600) as port:
        start_s = time.monotonic()
        assert port.read(8, start_s + 0.1) == b""
        assert 0.095 <= time.monotonic() - start_s < 0.3


def test_a_read_waits_for_the_rest_as_long_as_it_takes_and_no_longer(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 2400) as port:
        os.write(far_end.descriptor, b"half")
        start_s = time.monotonic()
        assert port.read(28, start_s + 5) == b"half"
        assert 24 * port.char_s <= time.monotonic() - start_s < 1


def test_a_deadline_ends_the_wait_for_the_rest(far_end: FarEnd) -> None:
    with SerialPort(far_end.path, 300) as port:
        os.write(far_end.descriptor, b"half")
        start_s = time.monotonic()
        assert port.read(200, start_s + 0.1) == b"half"
        assert 0.095 <= time.monotonic() - start_s < 1


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
    # Waking for each byte would take a hundred times the cost of one wake-up.
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


def test_a_port_says_when_it_was_opened(far_end: FarEnd) -> None:
    port = SerialPort(far_end.path, 9600)
    assert port.opened_at_s == float("-inf")
    before_s = time.monotonic()
    port.open()
    first_s = port.opened_at_s
    assert before_s <= first_s <= time.monotonic()
    port.close()
    port.write(b"?")
    assert port.opened_at_s > first_s
    port.close()


def test_more_than_the_kernel_takes_at_once_is_sent_whole(far_end: FarEnd) -> None:
    data = bytes(range(256)) * 256
    heard = bytearray()

    def listen() -> None:
        while len(heard) < len(data):
            heard.extend(os.read(far_end.descriptor, 4096))

    thread = threading.Thread(target=listen)
    with SerialPort(far_end.path, 9600) as port:
        thread.start()
        port.write(data)
        thread.join()
    assert bytes(heard) == data


def test_a_device_that_cannot_switch_a_transceiver_is_named_with_a_remedy(far_end: FarEnd) -> None:
    port = SerialPort(far_end.path, 9600, rs485=Rs485())
    with pytest.raises(PortLost, match=r"TIOCSRS485.*Inappropriate ioctl.*rs485 to adapter"):
        port.open()
    # The port is let go of: another may have it.
    with SerialPort(far_end.path, 9600):
        pass


@pytest.mark.parametrize(
    ("rs485", "flags"), [(Rs485(True, 29, 3), 0b011), (Rs485(False, 29, 3), 0b101)]
)
def test_the_kernel_is_told_how_to_drive_the_transceiver(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch, rs485: Rs485, flags: int
) -> None:
    # struct serial_rs485 of linux/serial.h: flags, delay before, delay after, in ms; no PTY has it.
    told: list[list[int]] = []
    real = fcntl.ioctl

    def ioctl(descriptor: int, request: int, *rest: object) -> object:
        if request == 0x542E:
            return 0
        if request == 0x542F:
            told.append(list(rest[0])[:3])  # type: ignore[call-overload]
            return 0
        return real(descriptor, request, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    SerialPort(far_end.path, 9600, rs485=rs485).open()
    assert told == [[flags, 29, 3]]


def test_a_delay_that_the_kernel_cuts_is_not_taken() -> None:
    with pytest.raises(ValueError, match=r"before_ms 101: expected 0\.\.100 ms"):
        Rs485(before_ms=101)


def test_a_lost_port_is_told_by_its_name_that_stays(
    far_end: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "BY_ID", tmp_path)
    stays = tmp_path / "usb-Maker_RS485_A1B2-if00-port0"
    stays.symlink_to(far_end.path)
    port = SerialPort(far_end.path, 9600)
    port.open()
    far_end.unplug()
    with pytest.raises(PortLost, match=f"plug the adapter in again .*configure {stays}"):
        port.read(1, time.monotonic() + 1)


def test_a_missing_port_is_told_which_adapters_are_there(
    far_end: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "BY_ID", tmp_path)
    with pytest.raises(PortLost, match="there now: none"):
        SerialPort("/dev/ttyUSB77", 9600).open()
    stays = tmp_path / "usb-Maker_RS485_A1B2-if00-port0"
    stays.symlink_to(far_end.path)
    with pytest.raises(PortLost, match=f"there now: {stays}"):
        SerialPort("/dev/ttyUSB77", 9600).open()
    assert names.stable_name(far_end.path) == str(stays)
    assert names.stable_name(str(stays)) is None
    assert names.stable_name("/dev/null") is None
