"""APDUs: what a meter answers to each service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.dlms.apdu.association import association_response
from agent.dlms.apdu.get import get_response, list_results, value_and_rest
from agent.dlms.errors import DlmsError
from hil.fuzz.decoders import Decoder
from hil.fuzz.seeds import bench_session, captured_with

_EXCEPTION: Final = bytes.fromhex("d80106")
_SERVICE_ERROR: Final = bytes.fromhex("0e010601")


def _get(data: bytes) -> None:
    """As an answer to the request with the number that it bears."""
    answer = get_response(data, data[2] & 0x0F if len(data) > 2 else 0)
    list_results(answer.data)


def _get_seeds() -> Sequence[bytes]:
    answers = bench_session().answers(0xC4)
    refused = [bytes.fromhex("c401410103"), bytes.fromhex("c402410100000001" + "0113")]
    return [*answers, *refused, _EXCEPTION, _SERVICE_ERROR, *captured_with(0xC4)]


def _list_seeds() -> Sequence[bytes]:
    results = [apdu[3:] for apdu in bench_session().answers(0xC4) if apdu[1] == 3]
    return [*results, bytes.fromhex("0201030011ff")]


def _association_seeds() -> Sequence[bytes]:
    return [
        *bench_session().answers(0x61),
        _EXCEPTION,
        _SERVICE_ERROR,
        *captured_with(0x61),
    ]


DECODERS: Final = (
    Decoder("get-response", _get, (DlmsError,), _get_seeds),
    Decoder("get-list", value_and_rest, (DlmsError,), _list_seeds),
    Decoder(
        "association-response",
        association_response,
        (DlmsError,),
        _association_seeds,
    ),
)
