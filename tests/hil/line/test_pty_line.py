"""Simulated lines: real PTYs, one loop."""

import os
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.line.port import PortLost
from agent.line.serial_port import SerialPort
from hil.line.pty import LineLoop, LinkTaken, PtyLine, served
from hil.line.responder import Answer
from hil.line.uart import Uart


class Repeats:
    """Answers any bytes with so many copies of them."""

    def __init__(self, times: int = 1, delay_s: float = 0.0) -> None:
        self.times = times
        self.delay_s = delay_s

    def receive(self, data: bytes) -> list[Answer]:
        return [Answer(data * self.times, self.delay_s)]


def taken_s(action: Callable[[], object]) -> float:
    start_s = time.monotonic()
    action()
    return time.monotonic() - start_s


def test_a_paced_line_takes_the_time_of_its_bytes_both_ways(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(10), baud=9600)
    with served(line), SerialPort(str(line.link), 9600) as port:
        port.write(b"request.")
        answer: list[bytes] = []
        spent_s = taken_s(lambda: answer.append(port.read(80, time.monotonic() + 2)))
    assert answer == [b"request." * 10]
    physical_s = 88 * 10 / 9600
    assert physical_s - 0.005 <= spent_s < physical_s * 1.5


def test_a_line_without_pacing_answers_at_once_but_keeps_an_answers_delay(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(400, delay_s=0.05), baud=300, paced=False)
    with served(line), SerialPort(str(line.link), 115200) as port:
        port.write(b"0123456789")
        spent_s = taken_s(lambda: port.read(4000, time.monotonic() + 2))
    assert 0.045 <= spent_s < 0.5


def test_an_answer_longer_than_the_pty_buffer_arrives_whole(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(10), baud=9600, paced=False)
    request = bytes(range(256)) * 8
    with served(line), SerialPort(str(line.link), 115200) as port:
        port.write(request)
        answer = b""
        deadline_s = time.monotonic() + 5
        while len(answer) < 20480 and time.monotonic() < deadline_s:
            answer += port.read(1, deadline_s)
    assert answer == request * 10


def test_one_loop_serves_many_lines_side_by_side(tmp_path: Path) -> None:
    lines = [PtyLine(tmp_path / f"line-{n}", Repeats(4), baud=9600) for n in range(24)]
    with served(*lines):
        ports = [SerialPort(str(line.link), 9600) for line in lines]
        start_s = time.monotonic()
        for number, port in enumerate(ports):
            port.write(b"meter %02d" % number)
        answers = [port.read(32, time.monotonic() + 2) for port in ports]
        spent_s = time.monotonic() - start_s
        for port in ports:
            port.close()
    assert answers == [b"meter %02d" % number * 4 for number in range(24)]
    assert spent_s < 24 * 40 * 10 / 9600 / 2


def test_an_idle_loop_hardly_uses_the_processor(tmp_path: Path) -> None:
    lines = [PtyLine(tmp_path / f"line-{n}", Repeats(), baud=9600) for n in range(8)]
    stop = threading.Event()
    used: list[float] = []

    def run() -> None:
        LineLoop(lines).run(stop)
        used.append(time.thread_time())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    stop.wait(1.0)
    stop.set()
    thread.join(5)
    assert used[0] < 0.05


def test_the_link_leads_to_a_raw_line_and_goes_with_it(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "deep" / "line", Repeats(), baud=9600)
    everything = bytes(range(256))
    with served(line), SerialPort(str(line.link), 9600) as port:
        port.write(everything)
        assert port.read(256, time.monotonic() + 3) == everything
    assert not line.link.is_symlink()


def test_a_link_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "line"
    link.symlink_to("/dev/pts/of-a-dead-process")
    line = PtyLine(link, Repeats(), baud=9600)
    assert os.readlink(link) != "/dev/pts/of-a-dead-process"
    line.close()


def test_closing_leaves_a_link_that_another_line_has_taken_over(tmp_path: Path) -> None:
    first = PtyLine(tmp_path / "line", Repeats(), baud=9600)
    second = PtyLine(tmp_path / "line", Repeats(), baud=9600)
    first.close()
    assert (tmp_path / "line").exists()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_links_place_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "line").write_text("someone's notes")
    with pytest.raises(LinkTaken, match="expected nothing or an old link"):
        PtyLine(tmp_path / "line", Repeats(), baud=9600)
    assert (tmp_path / "line").read_text() == "someone's notes"


def test_a_reader_that_hangs_up_finds_the_line_again(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(), baud=9600, paced=False)
    with served(line):
        for _ in range(3):
            with SerialPort(str(line.link), 9600) as port:
                port.write(b"again")
                assert port.read(5, time.monotonic() + 2) == b"again"


def test_a_vanished_line_is_reported_to_its_reader(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(), baud=9600)
    with served(line):
        port = SerialPort(str(line.link), 9600)
        port.open()
    with pytest.raises(PortLost, match="plug the adapter in again"):
        port.read(1, time.monotonic() + 2)


def test_a_line_that_is_pulled_out_hangs_up_and_comes_back_as_a_new_device(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(), baud=9600, paced=False)
    with served(line) as loop:
        port = SerialPort(str(line.link), 9600)
        port.open()
        loop.pull_out(line, for_s=0.2)
        with pytest.raises(PortLost, match=r"hung up|is gone"):
            port.read(1, time.monotonic() + 2)
        with pytest.raises(PortLost, match="No such file"):
            port.open()
        deadline_s = time.monotonic() + 3
        while not line.link.exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        port.write(b"again")
        assert port.read(5, time.monotonic() + 2) == b"again"
        port.close()


def test_what_was_on_its_way_is_lost_with_the_line(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "line", Repeats(delay_s=0.3), baud=9600, paced=False)
    with served(line) as loop, SerialPort(str(line.link), 9600) as port:
        port.write(b"before")
        loop.pull_out(line, for_s=0.0)
        with pytest.raises(PortLost):
            port.read(6, time.monotonic() + 2)
        deadline_s = time.monotonic() + 3
        while not line.link.exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        port.open()
        assert port.read(6, time.monotonic() + 0.6) == b""


@pytest.mark.parametrize("singly", [False, True])
def test_a_line_that_hands_over_singly_wakes_its_reader_more_often_than_its_chunks_would(
    tmp_path: Path, singly: bool
) -> None:
    sent = bytes(range(200))
    line = PtyLine(tmp_path / "line", Repeats(), baud=19200, singly=singly)
    pieces: list[bytes] = []
    with served(line), SerialPort(str(line.link), 19200) as port:
        port.write(sent)
        deadline_s = time.monotonic() + 3
        while sum(map(len, pieces)) < len(sent) and time.monotonic() < deadline_s:
            pieces.append(port.read(1, deadline_s))
    assert b"".join(pieces) == sent
    # A chunk of 8 ms has 15 characters at this rate.
    assert (len(pieces) > len(sent) / 15 + 1) == singly


@pytest.mark.parametrize(("baud", "right"), [(9600, True), (19200, False), (4800, False)])
def test_a_reader_understands_a_line_only_at_the_lines_own_baud_rate(
    tmp_path: Path, baud: int, right: bool
) -> None:
    line = PtyLine(tmp_path / "line", Repeats(), baud=9600, paced=False, uart=Uart(9600))
    with served(line), SerialPort(str(line.link), baud) as port:
        port.write(b"request.")
        assert (port.read(8, time.monotonic() + 0.3) == b"request.") == right


@pytest.mark.parametrize("odd_baud", [250_000, 0])
def test_a_reader_at_a_rate_without_a_name_or_hung_up_hears_nothing_and_ends_no_line(
    tmp_path: Path, odd_baud: int
) -> None:
    line = PtyLine(tmp_path / "line", Repeats(), baud=9600, uart=Uart(9600))
    with served(line):
        with SerialPort(str(line.link), 9600) as port:
            port.switch(odd_baud or 9600)
            if not odd_baud:
                settings = termios.tcgetattr(port.fileno())
                settings[4] = settings[5] = termios.B0
                termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)
            port.write(b"ab")
            assert port.read(1, time.monotonic() + 0.1) == b""
        with SerialPort(str(line.link), 9600) as port:
            port.write(b"ab")
            assert port.read(2, time.monotonic() + 1) == b"ab"
