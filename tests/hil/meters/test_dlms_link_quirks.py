"""Habits of the simulated meters' links: what goes over the line, and that the client copes."""

from __future__ import annotations

import pytest

from agent.dlms.client import Client
from agent.dlms.errors import DlmsError
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.security.settings import Security
from hil.fuzz.seeds import Wire
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.hdlc import Ear, Heard, Station, build
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.test_dlms_bench_meters import ADDRESS, TEXT, StoppedClock

_METER, _CLIENT = server_address(ADDRESS), client_address(1)
_SNRM_WINDOWS_3 = bytes.fromhex("81800c 05020400 06020400 070103 080103")
_OUT_OF_TURN = 5 << 1 | 0x10


def a_station(*quirks: str) -> Station:
    return Station(
        lambda _sap, request: [request],
        lambda: None,
        client_window=3,
        longest_info=600,
        quirks=frozenset(quirks),
    )


def said(station: Station, control: int, payload: bytes = b"") -> tuple[int, bytes]:
    (heard,) = Ear().hear(station.receive(Heard(_METER, _CLIENT, control, payload, more=False)))
    return heard.control, heard.payload


@pytest.mark.parametrize(
    ("quirk", "parameters"),
    [
        ("UA of one-byte values", "81800c 0501ff 0601ff 070103 080103"),
        ("UA of two-byte values", "818010 05020258 06020258 07020003 08020003"),
        ("UA without parameters", ""),
    ],
)
def test_what_was_agreed_is_told_in_the_width_of_the_quirk_and_kept(quirk, parameters):
    assert said(a_station(quirk), 0x93, _SNRM_WINDOWS_3) == (0x73, bytes.fromhex(parameters))
    meter = DlmsMeter(
        Climbing(),
        longest_info=600,
        client_window=3,
        customer_text=bytes(range(256)) * 8,
        quirks=frozenset({quirk}),
    )
    with client_of(Wire(DlmsBus({ADDRESS: meter}, StoppedClock()))) as client:
        assert client.get(TEXT) == meter.customer_text


@pytest.mark.parametrize("quirk", ["", "UA with parameters to DISC"])
def test_disc_is_confirmed_with_parameters_only_by_the_quirk(quirk):
    station = a_station(*[quirk] * bool(quirk))
    said(station, 0x93)
    control, payload = said(station, 0x53)
    assert (control, bool(payload)) == (0x73, bool(quirk))


def test_after_a_frame_out_of_turn_the_quirk_leaves_only_a_reset():
    patient, sulking = a_station(), a_station("FRMR until reset")
    for station, right_frame in ((patient, 0x30), (sulking, 0x97)):
        said(station, 0x93)
        assert said(station, _OUT_OF_TURN, b"x")[0] == 0x97
        assert said(station, 0x10, b"x")[0] == right_frame
        assert said(station, 0x53)[0] == 0x73
        assert said(station, 0x93)[0] == 0x73
        assert said(station, 0x10, b"x")[0] == 0x30


def test_a_client_whose_link_was_rejected_is_told_and_the_next_one_reads():
    meter = DlmsMeter(Climbing(), customer_text=b"here", quirks=frozenset({"FRMR until reset"}))
    bus = DlmsBus({ADDRESS: meter}, StoppedClock())
    with client_of(Wire(bus)) as client:
        bus.receive(build(_METER, _CLIENT, _OUT_OF_TURN, b"x"))
        with pytest.raises(DlmsError, match="FRMR"):
            client.get(TEXT)
    with client_of(Wire(bus)) as client:
        assert client.get(TEXT) == b"here"


def client_of(wire: Wire) -> Client:
    carrier = HdlcCarrier(
        wire,
        LinkSettings(gap_s=0.0, response_s=0.02, window=3),
        client_address=_CLIENT,
        server_address=_METER,
        name="meter",
    )
    return Client(carrier, Security("lls", password=b"loadscape"), name="meter")
