"""The agent's Modbus reads on real PTYs whose far end misbehaves: right values or none."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.driver import ReadError
from agent.line.serial_port import SerialPort
from agent.modbus.exchange import UnitExchange
from agent.modbus.transaction import Answered, ReadRequest
from hil.line import faults
from hil.line.faults import Fault, Faulty
from hil.line.pty import PtyLine, served
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

TIMEOUT_S = 0.3
VOLTAGE = ReadRequest(1, 4, 0, 2)
ENERGY = ReadRequest(1, 4, 72, 2)
EXPORT = ReadRequest(1, 4, 74, 2)


def truth(request: ReadRequest) -> bytes:
    answer = ModbusMeter("eastron_sdm120", Steady()).read(4, request.address, request.count, 0)
    assert isinstance(answer, bytes)
    return answer


def outcomes(
    folder: Path, script: Sequence[Fault], requests: Sequence[ReadRequest], attempts: int = 1
) -> tuple[str, UnitExchange]:
    """One letter per request: r right, w wrong, - none; and the exchange with its counts."""
    bus = ModbusBus({1: ModbusMeter("eastron_sdm120", Steady())}, SystemClock())
    line = PtyLine(folder / "line", Faulty(bus, script), baud=9600, paced=False)
    letters = ""
    with served(line), SerialPort(str(line.link), 9600) as port:
        exchange = UnitExchange(port, 1, response_timeout_s=TIMEOUT_S)
        for request in requests:
            try:
                verdict = exchange.ask(request, attempts)
            except ReadError:
                letters += "-"
                continue
            if isinstance(verdict, Answered):
                letters += "r" if verdict.data == truth(request) else "w"
            else:
                letters += "x"
    return letters, exchange


def test_a_single_bad_answer_is_asked_for_again(tmp_path: Path) -> None:
    letters, exchange = outcomes(tmp_path, [faults.bad_crc], [VOLTAGE, ENERGY], attempts=2)
    assert letters == "rr"
    assert exchange.transactions.rejected["bad_crc"] == 1


def test_the_answer_of_a_repeated_question_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    # Both attempts are answered, the first one late: the second answer is still to come.
    script = [faults.late(0.4), faults.late(0.2)]
    letters, _ = outcomes(tmp_path, script, [VOLTAGE, ENERGY, EXPORT], attempts=2)
    assert letters == "rrr"


def test_a_busy_meter_is_asked_again_after_a_pause(tmp_path: Path) -> None:
    start_s = time.monotonic()
    letters, _ = outcomes(tmp_path, [faults.exception(6)], [VOLTAGE], attempts=2)
    assert letters == "r"
    assert time.monotonic() - start_s > 0.2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (faults.bad_crc, "bad_crc"),
        (faults.other_unit, "other_unit"),
        (faults.other_function, "other_function"),
        (faults.more_registers, "other_count"),
        (faults.echo, "echo"),
        (faults.before(b"\0"), "noise"),
    ],
)
def test_what_is_rejected_is_counted_by_reason(tmp_path: Path, script: Fault, reason: str) -> None:
    _, exchange = outcomes(tmp_path, [script], [VOLTAGE])
    assert dict(exchange.transactions.rejected) == {reason: 1}
