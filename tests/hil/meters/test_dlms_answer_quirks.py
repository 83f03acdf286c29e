"""Habits of the simulated meters' answers: what each changes, byte by byte, and that it is read."""

from __future__ import annotations

import pytest

from agent.dlms.client import Client
from tests.agent.dlms.test_dlms_bench_meters import TEXT, meter_with, security_with
from tests.hil.meters.direct import Direct

_GET_TEXT = "c001c1" + TEXT.descriptor().hex() + "00"
_RLRQ = "6203800100"


def answers(quirk: str, asked: list[str]) -> list[str]:
    meter = meter_with("none", "none", quirks=frozenset({quirk} - {""}))
    meter.customer_text = b"AB"
    carrier = Direct(meter)
    with Client(carrier, security_with("none", "none"), name="meter"):
        return [carrier.request(bytes.fromhex(apdu), "").hex() for apdu in asked]


@pytest.mark.parametrize(
    ("quirk", "asked", "usual", "odd"),
    [
        ("RLRE of a wrong length", [_RLRQ], ["6303800100"], ["6304800100"]),
        ("RLRQ refused", [_RLRQ], ["6303800100"], ["d80102"]),
        ("tail after value", [_GET_TEXT], ["c401c10009024142"], ["c401c100090241420000"]),
        (
            "empty last block",
            [_GET_TEXT, "c002c100000001"],
            ["c401c10009024142", "c402c101000000010110"],
            ["c402c10000000001000409024142", "c402c101000000020000"],
        ),
    ],
)
def test_a_quirk_changes_the_answer_and_only_the_quirk_does(quirk, asked, usual, odd):
    assert answers("", asked) == usual
    assert answers(quirk, asked) == odd


@pytest.mark.parametrize(
    ("quirk", "answer"),
    [
        ("", ["d8010600001389"]),
        ("counter error as deciphering error", ["d80105"]),
        ("silent to low counters", []),
    ],
)
def test_a_low_counter_is_answered_as_the_quirk_says(quirk, answer):
    meter = meter_with(quirks=frozenset({quirk} - {""}))
    carrier = Direct(meter)
    with Client(carrier, security_with(), name="meter"):
        pass
    meter.security.heard = 5_000
    assert [apdu.hex() for apdu in carrier.all_answers(carrier.asked[0])] == answer
