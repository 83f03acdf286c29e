"""Meters that are polled and send notifications besides: reads go on, and nothing is mistaken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.dlms.driver import DlmsDriver
from agent.dlms.link.settings import LinkSettings
from agent.dlms.link.wrapper import WrapperCarrier
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.settings import Security
from agent.line.serial_port import SerialPort
from agent.line.tcp_port import TcpPort
from hil.line.pty import LineLoop, PtyLine, served
from hil.line.responder import Answer, Responder
from hil.meters.climbing import Climbing
from hil.meters.dlms import tcp
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.push import in_general_blocks, notification, ui_frames
from tests.agent.dlms.conftest import NOW_UTC_S, StoppedClock

ADDRESS = b"\x02\x23"
EDGE = NOW_UTC_S - NOW_UTC_S % 900
METER = DlmsMeter(Climbing())
LIST = notification(METER, "iskra_am550", NOW_UTC_S)
PUSHES = {
    "whole": ui_frames(LIST, ADDRESS),
    "segmented": ui_frames(LIST, ADDRESS, 60),
    "in blocks": b"".join(ui_frames(piece, ADDRESS) for piece in in_general_blocks(LIST, 80)),
    "of another meter": ui_frames(LIST, b"\x02\x27"),
}


class Talkative:
    """A bus on which a notification goes before each answer, and one behind it."""

    def __init__(self, bus: Responder, push: bytes, *, before: bool, behind: bool) -> None:
        self._bus, self._push = bus, push
        self._before, self._behind = before, behind

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._bus.receive(data)
        if not answers:
            return answers
        push = [Answer(self._push)]
        return push * self._before + answers + push * self._behind


def driver_on(port: SerialPort) -> DlmsDriver:
    return DlmsDriver.on_port(
        port,
        load_meter_class("idis_residential"),
        StoppedClock(),
        server_address="1/17",
        password=b"loadscape",
    )


def check(driver: DlmsDriver) -> None:
    sample = driver.sample()
    shown = METER.shown.registers(NOW_UTC_S)
    assert (sample.serial, sample.import_wh) == (METER.shown.serial, shown.import_wh)
    rows = driver.profile(EDGE - 95 * 900, EDGE)
    written = LoadProfile(METER, NOW_UTC_S).rows(EDGE - 95 * 900, EDGE)
    assert [(row.end_utc_s, row.import_wh) for row in rows] == [
        (row.end_utc_s, row.import_wh) for row in written
    ]


@contextmanager
def on_line(folder: Path, responder: Responder) -> Iterator[tuple[LineLoop, PtyLine, SerialPort]]:
    line = PtyLine(folder / "line", responder, baud=115200)
    with served(line) as loop, SerialPort(str(line.link), 115200) as port:
        yield loop, line, port


@pytest.mark.parametrize("push", PUSHES)
@pytest.mark.parametrize(("before", "behind"), [(True, False), (False, True)])
def test_a_notification_beside_every_answer_changes_no_value(tmp_path, push, before, behind):
    bus = DlmsBus({"1/17": METER}, StoppedClock())
    talkative = Talkative(bus, PUSHES[push], before=before, behind=behind)
    with on_line(tmp_path, talkative) as (_, _, port):
        check(driver_on(port))


def test_notifications_at_any_moment_change_no_value(tmp_path):
    bus = DlmsBus({"1/17": METER}, StoppedClock(), reaction_s=0.02)
    read = threading.Event()
    with on_line(tmp_path, bus) as (loop, line, port):

        def send() -> None:
            while not read.wait(0.017):
                loop.say(line, Answer(PUSHES["segmented"]))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            check(driver_on(port))
        finally:
            read.set()
            sender.join()


class TalkativeSession:
    """Logical device 1 over the wrapper, with a notification before each answer."""

    def __init__(self) -> None:
        self._session = tcp.WrapperSession({1: METER}, StoppedClock())

    def receive(self, data: bytes) -> list[tuple[bytes, float]]:
        push = tcp.packet(1, 1, LIST), 0.0
        return [each for answer in self._session.receive(data) for each in (push, answer)]


def test_notifications_between_answers_of_the_wrapper_change_no_value():
    meter_class = load_meter_class("idis_residential")
    with tcp.served(TalkativeSession) as server:
        port = TcpPort("127.0.0.1", server.port)
        driver = DlmsDriver(
            lambda sap: WrapperCarrier(
                port, LinkSettings(), client_sap=sap, server_wport=1, name="meter"
            ),
            meter_class,
            StoppedClock(),
            security=Security("lls", password=b"loadscape"),
            name="meter",
        )
        check(driver)
        port.close()
