"""The mode E opening: every step of it, and every way in which a head or a meter spoils it."""

from __future__ import annotations

import json
import os
import pty
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms.errors import AnswerMalformed, NoAnswer
from agent.dlms.link.mode_e import (
    Agreed,
    Identification,
    ModeECarrier,
    Opening,
    Say,
    State,
    identification,
    open_hdlc,
    with_parity,
)
from agent.line.serial_port import SerialPort

FOLDER = os.environ.get("LOADSCAPE_VECTORS")
ACK = b"\x06252\r\n"


class Head:
    """An optical head on a meter that answers lines by rate; only sleeps and reads take time."""

    opened_at_s = 0.0

    def __init__(self, answers: dict[tuple[int, bytes], bytes], *, echoes: bool = False) -> None:
        self.answers = answers
        self.echoes = echoes
        self.now_s = 0.0
        self.baud, self.parity = 9600, "N"
        self.said: list[tuple[float, int, bytes]] = []
        self.waiting: dict[int, bytes] = {}

    @property
    def char_s(self) -> float:
        return 10 / self.baud

    def switch(self, baud: int, parity: str = "N") -> None:
        self.baud, self.parity = baud, parity

    def write(self, data: bytes) -> None:
        plain = bytes(byte & 0x7F for byte in data)
        assert data == with_parity(plain)
        self.said.append((self.now_s, self.baud, plain))
        for (baud, line), answer in self.answers.items():
            if line == plain:
                self.waiting[baud] = self.waiting.get(baud, b"") + answer
        if self.echoes:
            self.waiting[self.baud] = data + self.waiting.get(self.baud, b"")

    def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
        data = self.waiting.get(self.baud, b"")
        if not data:
            self.now_s = deadline_s
            return b""
        self.waiting[self.baud] = data[5:]
        return data[:5]

    def discard(self) -> bytes:
        return self.waiting.pop(self.baud, b"")

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def open(self, **options: object) -> Agreed:
        return open_hdlc(
            self, name="meter 1", now_s=lambda: self.now_s, sleep=self.sleep, **options
        )


def a_head(
    ident: bytes = b"/GRX5\\2E450\r\n", baud: int = 9600, ack: bytes = ACK, **habits: bool
) -> Head:
    return Head({(300, b"/?!\r\n"): ident, (baud, ack): ack}, **habits)


@pytest.mark.parametrize("echoes", [False, True])
@pytest.mark.parametrize("parity_bits", [False, True])
def test_both_go_to_the_rate_that_the_meter_offers(echoes, parity_bits):
    head = a_head(echoes=echoes)
    if parity_bits:
        head.answers = {key: with_parity(answer) for key, answer in head.answers.items()}
    agreed = head.open(parity="E")
    assert agreed == Agreed(Identification("GRX", "5", "E450", True), 9600)
    assert (head.baud, head.parity) == (9600, "E")
    (first, second) = head.said
    assert first[1:] == (300, b"/?!\r\n")
    assert second[1:] == (300, ACK)
    assert 0.2 <= second[0] - first[0] <= 1.5


def test_a_lower_case_third_letter_means_a_quick_meter():
    head = a_head(b"/GRx5\\2E450\r\n")
    head.open()
    assert 0.02 <= head.said[1][0] - head.said[0][0] < 0.2


def test_a_device_address_and_a_slower_line_are_kept():
    head = Head({(300, b"/?0042!\r\n"): b"/GRX6\\2\r\n", (2400, b"\x06232\r\n"): b"\x06232\r\n"})
    assert head.open(address="0042", most_baud=2400).baud == 2400


def test_a_confirmation_whose_first_character_was_lost_in_the_switch_counts():
    head = a_head()
    head.answers[(9600, ACK)] = ACK[1:]
    assert head.open().baud == 9600


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (Head({}), NoAnswer, "expected its identification, nothing whole"),
        (a_head(baud=4800), NoAnswer, "expected its confirmation at the new rate"),
        (a_head(b"/GRX\r\n"), AnswerMalformed, "baud rate of 0 to 6"),
        (a_head(b"/GRXA\\2\r\n"), AnswerMalformed, "another mode"),
        (a_head(b"/G5\r\n"), AnswerMalformed, "expected an identification"),
        (a_head(b"x" * 99), AnswerMalformed, "without an end"),
        (Head({(300, b"/?!\r\n"): b"/GRX5\r\n", (9600, ACK): b"no\r\n"}), AnswerMalformed, "no"),
    ],
)
def test_what_spoils_an_opening_is_said_after_two_tries_and_leaves_300_baud(head, error, message):
    with pytest.raises(error, match=message) as raised:
        head.open()
    assert str(raised.value).startswith("meter 1: mode E: ")
    assert [said[2] for said in head.said].count(b"/?!\r\n") == 2
    assert head.baud == 300
    assert head.now_s < 20


@pytest.mark.parametrize("address", ["a" * 33, "1!", "ä", "1\r"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ValueError, match="expected a device address"):
        Opening(address)


def test_the_states_follow_one_another_and_end():
    opening = Opening()
    assert opening.state is State.IDENTIFICATION
    assert opening.receive(b"/GRX5\\2") is None
    say = opening.receive(b"id\r\n")
    assert isinstance(say, Say)
    assert (say.data, say.then_baud, opening.state) == (ACK, 9600, State.CONFIRMATION)
    assert isinstance(opening.receive(ACK), Agreed)
    assert opening.state is State.NOTHING
    assert opening.receive(b"anything\r\n") is None


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_lead_to_an_outcome_or_a_typed_error(pieces):
    opening = Opening()
    for piece in pieces:
        try:
            outcome = opening.receive(piece)
        except AnswerMalformed:
            return
        assert outcome is None or isinstance(outcome, Say | Agreed)


@given(st.binary())
def test_every_character_has_even_parity_and_keeps_its_seven_bits(data):
    made = with_parity(data)
    assert all(byte.bit_count() % 2 == 0 for byte in made)
    assert bytes(byte & 0x7F for byte in made) == bytes(byte & 0x7F for byte in data)


@pytest.mark.skipif(FOLDER is None, reason="set LOADSCAPE_VECTORS to the folder of the captures")
def test_the_opening_of_a_foreign_server_is_understood():
    assert FOLDER is not None
    cases = json.loads((Path(FOLDER) / "dlms_frames.json").read_text())["cases"]
    vector = next(case for case in cases if case["id"] == "mode-e-opening")
    sent, heard = ([bytes.fromhex(line) for line in vector["input"][key]] for key in ("tx", "rx"))
    opening = Opening()
    assert opening.request == sent[0]
    say = opening.receive(heard[0])
    assert isinstance(say, Say)
    assert say.data == sent[1]
    agreed = opening.receive(heard[1])
    assert isinstance(agreed, Agreed)
    expected = vector["expect"]
    found = agreed.identification
    assert (found.maker, found.baud_code, agreed.baud, found.ident) == (
        expected["manufacturer"],
        expected["baud_char"],
        expected["baud"],
        expected["ident"],
    )
    assert identification(heard[0]) == found


def test_a_carrier_opens_before_each_link():
    calls: list[str] = []

    class Link:
        longest_answer = 7

        def open(self) -> None:
            calls.append("link")

        def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
            return apdu + what.encode() + str(tries).encode()

        def more(self, what: str) -> bytes:
            return what.encode()

        def close(self) -> None:
            calls.append("close")

    def opening() -> Agreed:
        calls.append("opening")
        return Agreed(Identification("GRX", "5", "", True), 9600)

    carrier = ModeECarrier(Link(), opening)
    carrier.open()
    assert carrier.request(b"a", "b", tries=1) == b"ab1"
    assert (carrier.more("x"), carrier.longest_answer) == (b"x", 7)
    carrier.close()
    carrier.open()
    assert calls == ["opening", "link", "close", "opening", "link"]


def test_a_serial_port_switches_its_rate_while_it_is_open():
    master, slave = pty.openpty()
    try:
        with SerialPort(os.ttyname(slave)) as port:
            for baud, code in ((300, termios.B300), (9600, termios.B9600)):
                os.write(master, b"of before")
                port.switch(baud, "E")
                assert port.discard() == b""
                assert termios.tcgetattr(slave)[4:6] == [code, code]
                assert port.char_s == 11 / baud
            port.write(b"after")
            assert os.read(master, 5) == b"after"
    finally:
        os.close(master)
        os.close(slave)
