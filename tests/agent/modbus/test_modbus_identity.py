"""Serial numbers and model codes: what registers say, and what is asked for them."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.driver import MeterRefused
from agent.modbus.identity import (
    IdentityRegister,
    IdentityRule,
    NoSerialRegister,
    read_serial,
)
from agent.modbus.transaction import Answered, ReadRequest, Refused

NUMBER = IdentityRegister(3, 64512, 2, "uint32")
DIGITS = IdentityRegister(3, 0x4000, 2, "hex")
LETTERS = IdentityRegister(3, 0x5000, 7, "ascii")
IN_BLOCK = IdentityRegister(3, 64012, 8, "ascii", block=(64001, 27))
CODE = IdentityRegister(3, 64514, 1, "uint16")


@dataclass
class OneAnswer:
    """An exchange whose unit always says the same; remembers what it was asked."""

    verdict: Answered | Refused
    asked: ReadRequest | None = None

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        self.asked = request
        return self.verdict


def serial(register: IdentityRegister, verdict: Answered | Refused) -> str | None:
    return read_serial(OneAnswer(verdict), 7, register, "big", math.inf)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("register", "data", "text"),
    [
        (NUMBER, "0140 6f63", "21000035"),
        (DIGITS, "1506 0001", "15060001"),
        (LETTERS, "4259 3132 3334 3536 3738 3930 5300", "BY1234567890S"),
        (LETTERS, "0042 0059 0031 0032 0033 0034 0053", "BY1234S"),
        (LETTERS, "2020 4259 3132 3334 2020 2020 2020", "BY1234"),
        (LETTERS, "4259 3132 ffff ffff ffff ffff ffff", "BY12"),
    ],
)
def test_a_serial_number_reads_as_the_maker_prints_it(
    register: IdentityRegister, data: str, text: str
) -> None:
    assert register.text(bytes.fromhex(data), "big") == text


def test_the_low_word_comes_first_where_the_profile_says_so() -> None:
    assert NUMBER.text(bytes.fromhex("6f63 0140"), "little") == "21000035"
    # Letters stand in their order whatever the order of the words of numbers.
    assert LETTERS.text(b"BY1234567890S\0", "little") == "BY1234567890S"


@pytest.mark.parametrize("register", [NUMBER, DIGITS, LETTERS])
@pytest.mark.parametrize("fill", [b"\x00", b"\xff"])
def test_what_was_never_set_is_no_serial_number(register: IdentityRegister, fill: bytes) -> None:
    assert register.text(fill * 2 * register.words, "big") is None


@pytest.mark.parametrize("data", [b" " * 14, b"BY\xe91234567890", b"BY\n1234567890\0"])
def test_what_is_no_printable_text_is_no_serial_number(data: bytes) -> None:
    assert LETTERS.text(data.ljust(14, b"\0"), "big") is None


@given(st.binary(min_size=14, max_size=14), st.sampled_from(["big", "little"]))
def test_any_letters_give_a_clean_text_or_none(data: bytes, order: str) -> None:
    text = LETTERS.text(data, order)  # type: ignore[arg-type]
    assert text is None or (text.isprintable() and text.isascii() and text == text.strip() != "")


@given(st.integers(1, 2**32 - 2))
def test_every_number_comes_back(number: int) -> None:
    assert NUMBER.text(number.to_bytes(4, "big"), "big") == str(number)


def test_a_register_of_a_block_is_asked_for_with_its_whole_block() -> None:
    assert IN_BLOCK.request(9) == ReadRequest(9, 3, 64001, 27)
    block = bytearray(54)
    block[22:38] = b"BF 0123456/789  "
    assert IN_BLOCK.text(bytes(block), "big") == "BF 0123456/789"


@pytest.mark.parametrize("size", [0, 2, 6])
def test_an_answer_of_another_length_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match="expected 4 bytes from register 64512"):
        NUMBER.text(bytes(size), "big")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"function": 6}, "function: expected 3 or 4, got 6"),
        ({"type": "float32"}, "type: expected one of uint16, uint32, uint64, hex, ascii"),
        ({"words": 1}, "words: expected 2 for uint32, got 1"),
        ({"type": "ascii", "words": 126}, "words: expected 1..125"),
        ({"address": 65535}, "address: expected 0..65534 for 2 words"),
        ({"block": (64512, 1)}, "block: expected registers 64512..64513 within it"),
        ({"block": (64513, 27)}, "block: expected registers 64512..64513 within it"),
        ({"block": (64512, 126)}, "block: expected 1..125 registers"),
    ],
)
def test_a_register_that_cannot_be_is_refused_with_the_reason(
    change: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        replace(NUMBER, **change)  # type: ignore[arg-type]


def test_a_rule_matches_its_values_and_no_others() -> None:
    rule = IdentityRule(CODE, equals=(137, 135))
    assert rule.matches(b"\0\x89", "little")
    assert rule.matches(b"\0\x87", "big")
    assert not rule.matches(b"\x89\0", "big")


def test_a_rule_of_texts_matches_whole_ones_and_beginnings() -> None:
    register = IdentityRegister(3, 0x8960, 6, "ascii")
    rule = IdentityRule(register, equals=("C13",), begins=("B23", "B24"))
    assert rule.matches(b"B24 112-100\0", "big")
    assert rule.matches(b"C13\0\0\0\0\0\0\0\0\0", "big")
    assert not rule.matches(b"C13 110-300\0", "big")
    assert not rule.matches(bytes(12), "big")


@pytest.mark.parametrize(
    ("register", "equals", "begins", "said"),
    [
        (CODE, (), (), "equals: expected one value or more"),
        (CODE, ("137",), (), "equals: expected int for uint16, got '137'"),
        (CODE, (True,), (), "equals: expected int for uint16, got True"),
        (LETTERS, (137,), (), "equals: expected str for ascii, got 137"),
        (CODE, (137,), ("1",), "begins: expected an ascii register"),
        (LETTERS, (), ("",), "begins: expected texts"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_the_reason(
    register: IdentityRegister, equals: tuple[int | str, ...], begins: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        IdentityRule(register, equals, begins)


def test_a_serial_number_is_asked_from_its_unit_and_registers() -> None:
    exchange = OneAnswer(Answered(bytes.fromhex("01406f63")))
    assert read_serial(exchange, 7, NUMBER, "big", math.inf) == "21000035"  # type: ignore[arg-type]
    assert exchange.asked == ReadRequest(7, 3, 64512, 2)


def test_a_first_letter_alone_is_not_yet_the_serial_number() -> None:
    assert serial(LETTERS, Answered(b"B".ljust(14, b"\0"))) is None
    assert serial(NUMBER, Answered(b"\0\0\0\x07")) == "7"


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_meter_without_the_register_says_so_for_good(code: int) -> None:
    with pytest.raises(NoSerialRegister, match=r"unit 7: expected its serial number .*by hand"):
        serial(NUMBER, Refused(code))


@pytest.mark.parametrize("code", [4, 6])
def test_a_meter_that_refuses_for_now_may_be_asked_again(code: int) -> None:
    with pytest.raises(MeterRefused, match="asked again later") as raised:
        serial(NUMBER, Refused(code))
    assert not isinstance(raised.value, NoSerialRegister)
