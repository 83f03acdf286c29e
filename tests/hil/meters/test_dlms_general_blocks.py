"""General block transfer of the simulated meters, with the agent's client and without a link."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.general_block import GeneralBlock
from agent.dlms.client import Client
from agent.dlms.errors import NoAnswer
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.test_dlms_bench_meters import TEXT, WAYS, meter_with, security_with
from tests.hil.meters.direct import Direct


class Losing(Direct):
    """Loses pieces of a stream; the first of each is kept, for a link asks for that itself."""

    def __init__(self, meter: DlmsMeter, loses: list[bool]) -> None:
        super().__init__(meter)
        self._loses = iter(loses)

    def more(self, what: str) -> bytes:
        while self._stream:
            piece = self._stream.pop(0)
            if not next(self._loses, False):
                return piece
        raise NoAnswer("nothing came")


@settings(max_examples=300, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    size=st.integers(0, 1500),
    max_pdu=st.integers(60, 300),
    loses=st.lists(st.booleans(), max_size=40),
)
def test_pieces_of_an_answer_that_were_lost_are_streamed_again(way, size, max_pdu, loses):
    text = bytes(place % 251 for place in range(size))
    meter = meter_with(*way, general_blocks=True, max_pdu=max_pdu)
    meter.customer_text = text
    client = Client(
        Losing(meter, loses), security_with(*way), name="meter", general_blocks=True, max_pdu=60
    )
    try:
        with client:
            assert client.get(TEXT) == text
    except NoAnswer:
        assert sum(loses) > 3


def test_a_request_in_pieces_that_is_refused_does_not_stand_before_the_next_one():
    meter = meter_with("none", "none", general_blocks=True, max_request=60)
    carrier = Direct(meter)
    text = bytes(range(200))
    with Client(
        carrier, security_with("none", "none"), name="meter", general_blocks=True
    ) as client:
        damaged = GeneralBlock(1, 0, b"\xc1\x01\xc1\x00", last=True, window=4)
        assert carrier.request(damaged.encode(), "damaged") == b"\xd8\x01\x03"
        client.set(TEXT, axdr.octets(text))
        assert client.get(TEXT) == text


def test_without_general_blocks_a_piece_is_refused():
    carrier = Direct(meter_with("none", "none"))
    with Client(carrier, security_with("none", "none"), name="meter", general_blocks=True):
        piece = GeneralBlock(1, 0, b"\xc0\x01\xc1", last=True, window=4)
        assert carrier.request(piece.encode(), "piece") == b"\xd8\x02\x02"
