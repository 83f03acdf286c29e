"""Which bytes a Modbus transaction takes for its answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.modbus.transaction import Answered, ReadRequest, Refused, UnitTransactions
from ext.checksum import crc16_modbus


def sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")


def answer(request: ReadRequest, fill: int = 0x55) -> bytes:
    data = bytes([fill]) * (2 * request.count)
    return sealed(bytes([request.unit, request.function, len(data)]) + data)


def asked(request: ReadRequest) -> UnitTransactions:
    transactions = UnitTransactions(request.unit)
    transactions.ask(request, 0.0, 0.3)
    return transactions


VOLTAGE = ReadRequest(7, 4, 0, 2)
ENERGY = ReadRequest(7, 4, 72, 2)

requests = st.builds(
    ReadRequest,
    st.integers(1, 247),
    st.sampled_from([3, 4]),
    st.integers(0, 60000),
    st.integers(1, 125),
)


def test_the_request_frame_is_the_one_of_the_specification() -> None:
    # Modbus application protocol 1.1b3, 6.3: three holding registers from 107 on; CRC over unit 17.
    assert ReadRequest(17, 3, 107, 3).frame == bytes.fromhex("11 03 00 6B 00 03 76 87")


@given(requests, st.binary(max_size=40), st.data())
def test_an_answer_is_found_after_any_noise_in_any_pieces(
    request: ReadRequest, noise: bytes, data: st.DataObject
) -> None:
    transactions = asked(request)
    line = noise + answer(request)
    verdict = None
    while line and verdict is None:
        size = data.draw(st.integers(1, len(line)))
        verdict = transactions.receive(line[:size], 0.1)
        line = line[size:]
    assert verdict is not None
    assert line == b"" or isinstance(verdict, Refused)


@given(requests, st.data())
def test_a_damaged_answer_is_never_accepted(request: ReadRequest, data: st.DataObject) -> None:
    frame = bytearray(answer(request))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert asked(request).receive(bytes(frame), 0.1) is None


@given(requests, requests)
def test_the_answer_to_a_request_of_another_shape_is_never_accepted(
    request: ReadRequest, other: ReadRequest
) -> None:
    same = (request.unit, request.function, request.count)
    if same != (other.unit, other.function, other.count):
        assert asked(request).receive(answer(other), 0.1) is None


@given(requests, st.lists(st.binary(max_size=300), max_size=30))
def test_a_flood_is_neither_accepted_nor_kept(request: ReadRequest, pieces: list[bytes]) -> None:
    transactions = asked(request)
    for piece in pieces:
        transactions.receive(piece, 0.1)
        assert transactions.missing() >= 1
    transactions.give_up(0.5)


@given(requests, st.data())
def test_what_is_said_to_be_missing_never_exceeds_what_is_to_come(
    request: ReadRequest, data: st.DataObject
) -> None:
    transactions = asked(request)
    frame = answer(request, fill=0)
    size = data.draw(st.integers(0, len(frame) - 1))
    transactions.receive(frame[:size], 0.1)
    assert 1 <= transactions.missing() <= max(len(frame) - size, 5 - size)


def test_an_exception_must_carry_the_function_that_was_asked() -> None:
    assert asked(VOLTAGE).receive(sealed(bytes([7, 0x83, 2])), 0.1) is None
    assert asked(VOLTAGE).receive(sealed(bytes([7, 0x84, 2])), 0.1) == Refused(2)


def test_a_unit_that_owes_an_answer_is_asked_nothing_else_until_the_late_window_is_over() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(1.0)
    assert transactions.clear_at_s(ENERGY) == 1.0 + 0.6
    assert transactions.clear_at_s(VOLTAGE) == float("-inf")


def test_half_an_owed_answer_settles_nothing_and_the_whole_one_does() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(1.0)
    late = answer(VOLTAGE)
    transactions.overhear(late[:6], 1.1)
    assert transactions.clear_at_s(ENERGY) == 1.6
    transactions.overhear(late[6:], 1.2)
    assert transactions.clear_at_s(ENERGY) == float("-inf")
    assert transactions.rejected == {"late": 1}


def test_a_repeated_question_that_is_answered_once_leaves_one_answer_owed() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(1.0)
    transactions.ask(VOLTAGE, 1.0, 1.3)
    assert isinstance(transactions.receive(answer(VOLTAGE), 1.1), Answered)
    assert transactions.clear_at_s(ENERGY) == 1.3 + 0.6
    transactions.overhear(answer(VOLTAGE), 1.2)
    assert transactions.clear_at_s(ENERGY) == float("-inf")


def test_a_lost_answer_is_waited_for_once_however_often_its_question_is_repeated() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    transactions.ask(VOLTAGE, 0.4, 0.7)
    assert isinstance(transactions.receive(answer(VOLTAGE), 0.5), Answered)
    assert transactions.clear_at_s(VOLTAGE) == 0.7 + 0.6
    assert transactions.owed_since_s(VOLTAGE) == 0.4
    transactions.ask(VOLTAGE, 1.4, 1.7)
    assert transactions.owed_since_s(VOLTAGE) is None


def test_the_late_window_grows_with_the_slowest_answer() -> None:
    transactions = asked(VOLTAGE)
    transactions.receive(answer(VOLTAGE), 0.9)
    assert transactions.late_window_s == 1.8


def test_an_answer_that_had_begun_before_its_deadline_settles_with_its_rest() -> None:
    transactions = asked(VOLTAGE)
    transactions.receive(answer(VOLTAGE)[:6], 0.29)
    transactions.give_up(0.3)
    assert transactions.begun
    transactions.overhear(answer(VOLTAGE)[6:], 0.31)
    assert transactions.clear_at_s(ENERGY) == float("-inf")


def registers_of(request: ReadRequest) -> bytes:
    return request.address.to_bytes(2) * request.count


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 72, 74]), st.floats(0.0, 0.85), st.booleans()), max_size=12
    )
)
def test_no_sequence_of_late_and_lost_answers_yields_another_requests_value(
    steps: list[tuple[int, float, bool]],
) -> None:
    timeout_s = 0.3
    transactions = UnitTransactions(7)
    coming: list[tuple[float, bytes]] = []
    now_s = newest_s = 0.0
    for address, delay_s, lost in steps:
        request = ReadRequest(7, 4, address, 2)
        while coming and coming[0][0] <= max(now_s, transactions.clear_at_s(request)):
            at_s, frame = coming.pop(0)
            now_s = max(now_s, at_s)
            transactions.overhear(frame, now_s)
        now_s = max(now_s, transactions.clear_at_s(request))
        deadline_s = now_s + timeout_s
        transactions.ask(request, now_s, deadline_s)
        if not lost:
            newest_s = max(newest_s, now_s + delay_s)
            data = registers_of(request)
            coming.append((newest_s, sealed(bytes([7, 4, len(data)]) + data)))
        verdict = None
        while verdict is None and coming and coming[0][0] <= deadline_s:
            at_s, frame = coming.pop(0)
            now_s = max(now_s, at_s)
            verdict = transactions.receive(frame, now_s)
        if verdict is None:
            now_s = deadline_s
            transactions.give_up(now_s)
        else:
            assert verdict == Answered(registers_of(request))


def test_a_gateways_late_word_pays_no_debt_and_the_units_own_does() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    transactions.overhear(sealed(bytes([7, 0x84, 11])), 0.4)
    assert transactions.owed_since_s(VOLTAGE) is not None
    transactions.overhear(sealed(bytes([7, 0x84, 6])), 0.5)
    assert transactions.owed_since_s(VOLTAGE) is None


def test_the_late_window_grows_with_an_answer_that_came_after_its_deadline() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    transactions.overhear(answer(VOLTAGE), 0.8)
    assert transactions.late_window_s == 1.6


def test_an_answer_that_nobody_asked_for_is_late() -> None:
    transactions = UnitTransactions(7)
    transactions.overhear(answer(ENERGY), 0.1)
    transactions.ask(VOLTAGE, 0.2, 0.5)
    assert transactions.rejected == {"late": 1}


@pytest.mark.parametrize("before", [b"", b"\0"])
@pytest.mark.parametrize("size", [1, 7, 8, 20])
def test_an_echo_that_is_a_sound_answer_is_none(before: bytes, size: int) -> None:
    request = ReadRequest(7, 4, 0x0241, 1)
    # The first 7 bytes of this request are the answer "one register, 0x4100" with its right CRC.
    assert request.frame.startswith(sealed(bytes.fromhex("07 04 02 41 00")))
    transactions = asked(request)
    line = before + request.frame + answer(request)
    verdicts = [transactions.receive(line[at : at + size], 0.1) for at in range(0, len(line), size)]
    assert [verdict for verdict in verdicts if verdict] == [Answered(b"\x55\x55")]
    assert transactions.rejected["echo"] == 1


def test_every_byte_that_is_heard_is_told_once_and_in_order() -> None:
    told: list[tuple[str, bytes]] = []
    transactions = UnitTransactions(7, heard=lambda verdict, data: told.append((verdict, data)))
    transactions.ask(VOLTAGE, 0.0, 0.3)
    neighbour = sealed(bytes([9, 4, 2, 0, 0]))
    broken = answer(VOLTAGE)[:-1] + b"\0"
    line = b"\0\xff" + neighbour + broken + b"\xaa" + VOLTAGE.frame + answer(VOLTAGE)
    for at in range(len(line)):
        transactions.receive(line[at : at + 1], 0.1)
    assert told == [
        ("noise", b"\0\xff"),
        ("other_unit", neighbour),
        ("bad_crc", broken),
        ("noise", b"\xaa"),
        ("echo", VOLTAGE.frame),
        ("answer", answer(VOLTAGE)),
    ]


OTHERS = ReadRequest(7, 4, 12, 2)
"""What another master asks."""


def test_no_answer_is_taken_once_another_master_has_asked_the_same_unit() -> None:
    transactions = asked(VOLTAGE)
    assert transactions.receive(OTHERS.frame + answer(OTHERS, 0x66), 0.1) is None
    assert transactions.receive(answer(VOLTAGE), 0.2) is None
    assert transactions.rejected == {"other_master": 1, "late": 2}
    assert transactions.clear_at_s(ENERGY) == float("-inf")


def test_another_masters_question_is_answered_before_ours_is_asked() -> None:
    transactions = UnitTransactions(7)
    transactions.overhear(OTHERS.frame, 1.0)
    assert transactions.clear_at_s(VOLTAGE) == transactions.clear_at_s(OTHERS) == 1.6
    transactions.overhear(answer(OTHERS), 1.1)
    assert transactions.clear_at_s(VOLTAGE) == float("-inf")


def test_another_masters_question_right_behind_our_answer_is_not_missed() -> None:
    transactions = asked(VOLTAGE)
    assert transactions.receive(answer(VOLTAGE) + OTHERS.frame, 0.1) == Answered(b"\x55" * 4)
    assert transactions.clear_at_s(ENERGY) == 0.1 + 0.6


def test_questions_and_answers_of_another_master_that_went_by_leave_nothing_owed() -> None:
    transactions = UnitTransactions(7)
    others = (OTHERS.frame + answer(OTHERS)) * 3
    transactions.overhear(others + ENERGY.frame + answer(ENERGY), 5.0)
    assert transactions.clear_at_s(VOLTAGE) == float("-inf")
    assert transactions.rejected == {"other_master": 4, "late": 4}


def test_another_masters_question_to_a_neighbour_costs_nothing() -> None:
    transactions = asked(VOLTAGE)
    neighbours = ReadRequest(9, 4, 12, 2)
    line = neighbours.frame + answer(neighbours) + answer(VOLTAGE)
    assert transactions.receive(line, 0.1) == Answered(b"\x55" * 4)
    assert transactions.rejected == {"other_master": 1, "other_unit": 1}


def test_an_answer_that_waited_unread_pays_the_debt_that_it_belongs_to() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    transactions.ask(VOLTAGE, 0.4, 0.7)
    transactions.give_up(0.7)
    # It came at 0.8 and is read at 1.0, when the first question's window is over.
    transactions.overhear(answer(VOLTAGE), 1.0)
    assert transactions.owed_since_s(VOLTAGE) is not None
    transactions.overhear(answer(VOLTAGE), 1.1)
    assert transactions.owed_since_s(VOLTAGE) is None


def test_an_answer_that_waited_unread_does_not_make_the_unit_a_slow_one() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    transactions.overhear(answer(VOLTAGE), 30.0, just_came=False)
    assert transactions.owed_since_s(VOLTAGE) is None
    assert transactions.late_window_s == 0.6


def test_a_refusal_and_an_answer_pay_whatever_is_owed_in_any_order() -> None:
    transactions = asked(VOLTAGE)
    transactions.give_up(0.3)
    longer = ReadRequest(7, 4, 0, 4)
    transactions.overhear(longer.frame, 0.1)
    transactions.overhear(sealed(bytes([7, 0x84, 6])) + answer(longer), 0.4)
    assert transactions.rejected == {"other_master": 1, "late": 2}
