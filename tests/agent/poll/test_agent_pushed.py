"""Meters that send by themselves: from the bench's emitter over PTY or socket into the store."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from agent.config import AgentConfig, ConfigError, load_config
from agent.drivers import open_line
from agent.health import Counters, Faults
from agent.poll.lines import Line, Shared, build_lines, line_state
from agent.poll.pushed import PushThread
from hil.line.pty import LineLoop, PtyLine, served
from hil.line.responder import Answer
from hil.meters.climbing import Climbing
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.push import in_general_blocks, notification, ui_frames
from hil.meters.dlms.security import MeterSecurity
from hil.meters.dlms.tcp import packet
from tests.agent.agent_bench import Central, SetClock, sealed_of, start_writer
from wire.channels import SAMPLED_SCHEMA
from wire.quality import Quality

S = 900
T0 = 1_767_225_600
KEYS = bytes(range(16)), bytes(range(16, 32))
TITLES = (b"KAM\x00\x00\x00\x00\x01", b"KAM\x00\x00\x00\x00\x02")
HEAD = """\
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"
[broker]
host = "127.0.0.1"
ca_file = "ca.crt"
cert_file = "tls.crt"
key_file = "tls.key"
[keys]
sign_key_file = "sign.key"
root_public_file = "root.pub"
keyset_file = "keyset.cose"
[credentials]
file = "meters.toml"
"""


class Silent:
    def receive(self, data: bytes) -> list[Answer]:
        raise AssertionError(f"nothing is ever sent to meters that push, came {data.hex()}")


def a_meter(number: int, *, keys: bool = False) -> DlmsMeter:
    security = MeterSecurity(*KEYS, title=TITLES[number]) if keys else None
    return DlmsMeter(Climbing(f"LS000000{number}"), security=security)


def load(folder: Path, line: str, *meters: str) -> AgentConfig:
    secrets = folder / "meters.toml"
    secrets.write_text(
        f'[kam]\nencryption_key = "{KEYS[0].hex()}"\nauthentication_key = "{KEYS[1].hex()}"\n'
    )
    secrets.chmod(0o600)
    text = f'{HEAD}[[line]]\nname = "l1"\n{line}\n'
    for number, meter in enumerate(meters):
        text += f'[[meter]]\nid = "m{number}"\nline = "l1"\n{meter}\n'
    (folder / "agent.toml").write_text(text)
    return load_config(folder / "agent.toml")


class Running:
    """The line's thread as the agent builds it, before a real writer."""

    def __init__(self, folder: Path, config: AgentConfig, clock: SetClock) -> None:
        self.clock = clock
        self.faults = Faults()
        self.counters = Counters()
        self.central = Central()
        self.stop = Event()
        self.writer = start_writer(folder / "store", self.central.enrol(folder / "keys"), clock)
        shared = Shared(clock, self.writer.hand_over, self.counters, self.faults, self.stop)
        (self.line,) = build_lines(config, {}, shared)
        self.thread.start()
        self.until(lambda: self.thread.open)

    @property
    def thread(self) -> PushThread:
        assert isinstance(self.line, Line)
        assert isinstance(self.line.thread, PushThread)
        return self.line.thread

    def until(self, true: Callable[[], object]) -> None:
        until_s = time.monotonic() + 10
        while not true():
            assert time.monotonic() < until_s, (self.thread.state(), self.faults.present())
            self.thread.join(0.01)
            assert self.thread.is_alive()

    def edge(self, end_utc_s: int) -> dict[tuple[str, str, int], dict[str, int]]:
        """What central has once an edge is finished, by meter, serial number and end."""
        self.until(lambda: self.thread.finished_edge_utc_s == end_utc_s)
        self.until(lambda: self.writer.view.last_seq > self.central.upto)
        for sealed in sealed_of(self.writer, self.central.upto):
            self.central.take(sealed)
        names = [channel.name for channel in SAMPLED_SCHEMA.channels]
        return {
            key: dict(zip(names, values, strict=True))
            for key, values in self.central.values.items()
        }

    def close(self) -> None:
        self.stop.set()
        self.thread.join(5)
        assert not self.thread.is_alive()
        assert self.writer.finish(5) is not False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(line: str, *meters: str) -> Running:
            running = Running(tmp_path, load(tmp_path, line, *meters), SetClock(T0 + 1.0))
            stack.callback(running.close)
            return running

        yield start


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """What the meters of a serial line send."""
    line = PtyLine(tmp_path / "han", Silent(), baud=115200)
    with served(line) as loop:
        assert isinstance(loop, LineLoop)
        yield lambda data: loop.say(line, Answer(data))


SERIAL = 'port = "{}/han"\nprotocol = "dlms-push"\nbaud = 115200'
KAM = 'model = "kamstrup_omnipower"\ncredentials = "kam"\n'


def expected(end: int) -> dict[str, int]:
    shown = Climbing().registers(end)
    return {"import_wh": shown.import_wh, "export_wh": shown.export_wh}


def send_three(running: Running, send: Callable[[float], None], each: int = 1) -> None:
    """Lists, `each` time so many, at the begin, in the middle and behind the end of an interval."""
    for time_of_sending, at in enumerate((T0 + 2, T0 + 450, T0 + S + 2), 1):
        running.clock.utc_s = at + 1.0
        send(at)
        reads = time_of_sending * each
        running.until(lambda reads=reads: running.thread.state()["read"] == reads)


@pytest.mark.parametrize(
    ("model", "keys", "size", "block"),
    [
        ("iskra_am550", False, 2030, 0),
        ("iskra_am550", False, 90, 0),
        ("iskra_am550_described", False, 2030, 60),
        ("kamstrup_omnipower", True, 2030, 0),
        ("kamstrup_omnipower", True, 70, 100),
    ],
)
def test_pushed_lists_become_intervals_true_to_the_unit(
    run, say, tmp_path, model, keys, size, block
):
    meter = a_meter(0, keys=keys)
    running = run(
        SERIAL.format(tmp_path), f'model = "{model}"\n' + ('credentials = "kam"\n' if keys else "")
    )

    def send(at: float) -> None:
        apdu = notification(meter, model, at)
        pieces = in_general_blocks(apdu, block) if block else [apdu]
        say(b"".join(ui_frames(piece, b"\x02\x23", size) for piece in pieces))

    send_three(running, send)
    found = running.edge(T0 + S)["m0", "LS0000000", T0 + S]
    step = 10 if keys else 1
    for name, value in expected(T0 + S).items():
        assert abs(found[name] - value) <= step, name
    assert abs(found["voltage_dv"] - 2312) <= (2 if keys else 0)
    assert (found["power_w"], found["current_ca"], found["samples"]) == (3000, 1300, 2)
    assert not found["flags"] & Quality.NO_DATA
    assert running.faults.present() == {}
    assert running.thread.failing == []


def test_what_is_forged_repeated_in_the_clear_or_of_a_stranger_is_counted_and_nobodys(
    run, say, tmp_path
):
    meter, stranger = a_meter(0, keys=True), a_meter(1, keys=True)
    running = run(SERIAL.format(tmp_path), f'{KAM}system_title = "{TITLES[0].hex()}"\n')
    good = notification(meter, "kamstrup_omnipower", T0 + 2)
    forged = bytearray(notification(meter, "kamstrup_omnipower", T0 + 3))
    forged[-1] ^= 1
    plain = notification(a_meter(0), "kamstrup_omnipower", T0 + 4)
    other = notification(stranger, "kamstrup_omnipower", T0 + 5)
    for apdu in (good, good, bytes(forged), plain, other):
        say(ui_frames(apdu, b"\x02\x23"))
    damaged = bytearray(ui_frames(good, b"\x02\x23"))
    damaged[40] ^= 1
    say(bytes(damaged))
    kinds = ("ReplyReplayed", "ReplyForged", "ReplyUnprotected", "SenderUnknown")
    running.until(lambda: running.thread.state()["damaged_frames"])
    assert running.thread.state()["read"] == 1
    assert running.thread.state()["unread"] == dict.fromkeys(kinds, 1)
    assert {f"{kind} on line l1" for kind in kinds} <= running.faults.present().keys()
    assert running.counters.snapshot()["pushes_unread_total"] == 4
    assert json.dumps(line_state(running.thread))
    # Whoever sends no more for an interval is a fault no more; the silent meter is one.
    for end in (T0 + S, T0 + 2 * S):
        running.clock.utc_s = end + 11.0
        running.until(lambda end=end: running.thread.finished_edge_utc_s == end)
    assert set(running.faults.present()) == {"meter m0"}
    assert running.thread.failing == ["m0"]


def test_meters_of_one_line_are_told_apart_by_title_address_and_serial_number(run, say, tmp_path):
    running = run(
        SERIAL.format(tmp_path),
        f'{KAM}system_title = "{TITLES[0].hex()}"\n',
        f'{KAM}system_title = "{TITLES[1].hex()}"\n',
        'model = "iskra_am550"\nserver_address = "1/17"\n',
        'model = "iskra_am550"\nserial = "LS0000009"\n',
    )
    meters = [a_meter(0, keys=True), a_meter(1, keys=True), a_meter(2), a_meter(9)]
    kinds = ["kamstrup_omnipower"] * 2 + ["iskra_am550"] * 2
    addresses = [b"\x02\x25", b"\x02\x25", b"\x02\x23", b"\x02\x27"]
    reads = 0
    for at in (T0 + 2, T0 + S):
        running.clock.utc_s = at + 1.0
        for meter, kind, address in zip(meters, kinds, addresses, strict=True):
            say(ui_frames(notification(meter, kind, at), address))
        reads += 4
        running.until(lambda reads=reads: running.thread.state()["read"] == reads)
    found = running.edge(T0 + S)
    assert {(name, serial) for name, serial, end in found if end == T0 + S} == {
        ("m0", "LS0000000"),
        ("m1", "LS0000001"),
        ("m2", "LS0000002"),
        ("m3", "LS0000009"),
    }
    assert running.thread.state()["unread"] == {}


def test_a_list_that_is_odd_beside_the_one_before_has_to_come_twice(run, say, tmp_path):
    meter = a_meter(0)
    running = run(SERIAL.format(tmp_path), 'model = "iskra_am550"\n')
    send_three(running, lambda at: say(ui_frames(notification(meter, "iskra_am550", at), b"\x03")))
    running.edge(T0 + S)
    running.clock.utc_s = T0 + S + 61.0
    for number in (7, 0):
        odd = notification(a_meter(number), "iskra_am550", T0 + S + 60)
        say(ui_frames(odd, b"\x03"))
    running.until(lambda: running.thread.state()["read"] == 5)
    running.clock.utc_s = T0 + 2 * S + 2.0
    say(ui_frames(notification(meter, "iskra_am550", T0 + 2 * S), b"\x03"))
    found = running.edge(T0 + 2 * S)["m0", "LS0000000", T0 + 2 * S]
    assert found["import_wh"] == expected(T0 + 2 * S)["import_wh"]


def test_lists_over_the_wrapper_come_from_several_connections_and_damage_ends_one(run):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = run(
        f'port = "127.0.0.1:{port}"\nprotocol = "dlms-push-tcp"',
        'model = "iskra_am550"\nserver_address = "1"\n',
        f'{KAM}system_title = "{TITLES[1].hex()}"\n',
    )
    plain, ciphered = a_meter(0), a_meter(1, keys=True)
    with ExitStack() as stack:
        first, second, bad, cut = (
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(4)
        )
        bad.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert bad.recv(1) == b""
        cut.sendall(packet(1, 102, notification(plain, "iskra_am550", T0))[:-5])
        cut.close()

        def send(at: float) -> None:
            whole = packet(1, 102, notification(plain, "iskra_am550", at))
            first.sendall(whole[:7])
            first.sendall(whole[7:])
            second.sendall(packet(2, 102, notification(ciphered, "kamstrup_omnipower", at)))

        send_three(running, send, each=2)
        running.until(lambda: running.thread.state()["unread"] == {"AnswerMalformed": 2})
        found = running.edge(T0 + S)
    assert abs(found["m0", "LS0000000", T0 + S]["import_wh"] - expected(T0 + S)["import_wh"]) <= 1
    assert found["m1", "LS0000001", T0 + S]["samples"] == 2


@pytest.mark.parametrize(
    ("meters", "said"),
    [
        (['model = "kaifa_ma304"\n'], "with import_wh"),
        (['model = "nord"\n'], "no push class 'nord'"),
        (['model = "iskra_am550"\n', 'model = "iskra_am550"\nserial = "7"\n'], "add serial"),
        ([KAM, 'model = "iskra_am550"\nserial = "7"\n'], "add system_title"),
        (['model = "iskra_am550"\nsystem_title = "0011223344556677"\n'], "no keys"),
        (['model = "iskra_am550"\nclient_sap = 1\n'], "is no key of this table"),
        ([KAM.replace('"kam"', '"nobody"')], "nobody"),
    ],
)
def test_an_error_of_the_configuration_names_file_key_and_remedy(tmp_path, meters, said):
    from agent.drivers_push import build_pushed

    with pytest.raises(ConfigError, match=said) as raised:
        config = load(tmp_path, SERIAL.format(tmp_path), *meters)
        for meter in config.meters:
            build_pushed(config, meter)
    assert "agent.toml" in str(raised.value)


def test_a_meter_that_sends_by_itself_cannot_be_asked(tmp_path):
    config = load(tmp_path, SERIAL.format(tmp_path), 'model = "iskra_am550"\n')
    with pytest.raises(ConfigError, match="send by themselves"):
        open_line(config.lines[0])
