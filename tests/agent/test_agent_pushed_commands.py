"""A running agent with a line that it only listens to, and what the commands say of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_bench import BAUD, Bench, Running, modbus_line, prepare

from agent.config import load_config
from agent.run import Agent
from hil.line.pty import LineLoop, PtyLine, served
from hil.line.responder import Answer
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.push import notification, ui_frames
from hil.meters.steady import Steady

METER = DlmsMeter(Steady("LS0000007"))


class Silent:
    def receive(self, data: bytes) -> list[Answer]:
        raise AssertionError(f"nothing is sent to meters that push, came {data.hex()}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = prepare(tmp_path)
    text = made.config.read_text()
    head, _, _ = text.partition('\n[[line]]\nname = "dlms-1"')
    meters = [each for each in text.split("\n[[meter]]")[1:] if "modbus-1" in each]
    han = f'\n[[line]]\nname = "han"\nport = "{tmp_path}/han"\n'
    han += f'protocol = "dlms-push"\nbaud = {BAUD}\n'
    pushed = '\nid = "p1"\nline = "han"\nmodel = "iskra_am550"\nserver_address = "1/17"\n'
    made.config.write_text(head + han + "".join(f"\n[[meter]]{each}" for each in [*meters, pushed]))
    return made


@pytest.fixture
def han(bench: Bench) -> Iterator[tuple[LineLoop, PtyLine]]:
    line = PtyLine(bench.folder / "han", Silent(), baud=BAUD)
    with served(modbus_line(bench.folder), line) as loop:
        yield loop, line


def test_a_pushed_line_beside_others_is_shown_by_status_and_cannot_be_asked(bench, han, capsys):
    assert bench.say("check") == 0, capsys.readouterr().out
    assert "line han" in capsys.readouterr().out
    loop, line = han
    agent = Agent(load_config(bench.config))
    running = Running(agent, threading.Thread(target=agent.run))
    running.thread.start()
    try:
        running.until(lambda: running.is_open("han") and running.is_open("modbus-1"))
        for address in (b"\x02\x23", b"\x02\x23", b"\x02\x27"):
            data = ui_frames(notification(METER, "iskra_am550", time.time()), address)
            loop.say(line, Answer(data))

        def shown() -> dict[str, object]:
            return next(each for each in agent.state()["lines"] if each["name"] == "han")

        counted = {"read": 2, "unread": {"SenderUnknown": 1}, "damaged_frames": 0}
        running.until(lambda: shown()["pushed"] == counted)
        status = bench.folder / "data" / "status.json"
        running.until(lambda: '"SenderUnknown": 1' in status.read_text())
        assert "p1" in json.loads(status.read_text())["clocks"]
        running.until(lambda: agent.counters.snapshot()["reads_total"] > 0)
        capsys.readouterr()
        bench.say("status")
        said = capsys.readouterr().out
        assert "han: port open, 1 of 1 meters answer, 2 lists read, not: 1 SenderUnknown" in said
        assert "fault       SenderUnknown on line han: " in said
        for command in (["read", "p1"], ["trace", "han"], ["scan", "han"], ["clock", "p1"]):
            assert bench.say(*command) != 0, command
            said = "".join(capsys.readouterr())
            assert "send by themselves" in said, (command, said)
    finally:
        agent.stop()
        running.thread.join(5)
    assert not running.thread.is_alive()


def test_a_port_that_another_program_listens_on_is_a_fault_that_check_names(bench, han, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        bench.edit(
            f'port = "{bench.folder}/han"\nprotocol = "dlms-push"',
            f'port = "{place}"\nprotocol = "dlms-push-tcp"',
        )
        bench.edit('server_address = "1/17"', 'server_address = "1"')
        assert bench.say("check") == 1
        said = capsys.readouterr().out
    assert f"{place}: expected an address of this machine and a free TCP port" in said
