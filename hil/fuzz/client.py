"""The whole client against a meter that says anything: every service, every way to answer in parts.

An input is a list of APDUs that come as answers in turn, whatever was asked.
When they are used up the meter is silent. So a meter can neither make the
client raise what its caller does not expect, nor keep it asking, nor fill its
memory: each answer is used once, and each was paid for in the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.apdu.ber import tlv
from agent.dlms.client import Client
from agent.dlms.constants import APPLICATION_CONTEXT_LN_CIPHERED, MECHANISM_HLS_GMAC, Tag
from agent.dlms.errors import DlmsError, NoAnswer
from agent.dlms.security.settings import Security
from hil.fuzz.apdu import CLIENT_TITLE, KEYS, METER_TITLE, Counter, as_records, records, sealed
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from hil.fuzz.seeds import bench_session

LONGEST_ANSWER: Final = 4096
_REGISTER: Final = Attribute.parse("3/1.0.1.8.0.255/2")
_BUFFER: Final = Attribute.parse("7/1.0.99.1.0.255/2")
_SHIFT: Final = Method(8, bytes.fromhex("0000010000ff"), 6)
_CHALLENGE: Final = bytes(range(0x40, 0x50))
_ANSWERS: Final = (0xC4, 0xC5, 0xC7)
_MOST_REQUESTS_EACH: Final = 8
"""Requests for one answer; more would be asking without an answer."""


class ScriptedCarrier:
    """A `Carrier` whose meter answers with the given APDUs, one after the other."""

    longest_answer = LONGEST_ANSWER

    def __init__(self, answers: Sequence[bytes], *, numbered: bool = False) -> None:
        """With `numbered` each answer gets the number of the request that it answers."""
        self._numbered = numbered
        self._answers = iter(answers)
        self.left = len(answers)
        self._patience = _MOST_REQUESTS_EACH * (len(answers) + 4)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        answer = self.more(what)
        if self._numbered and len(answer) > 2 and answer[0] in _ANSWERS:
            number = answer[2] & 0xF0 | apdu[2] & 0x0F
            return answer[:2] + bytes([number]) + answer[3:]
        return answer

    def more(self, what: str) -> bytes:
        self._patience -= 1
        if self._patience < 0:
            raise Overgrown("the client goes on asking a meter that is silent")
        self.left = max(0, self.left - 1)
        for answer in self._answers:
            return answer
        raise NoAnswer(f"no answer to {what}")


def ask_everything(client: Client) -> Iterator[Callable[[], object]]:
    """Each of the client's services."""
    yield lambda: client.get(_REGISTER)
    yield lambda: client.get_many([_REGISTER, _REGISTER.scaler_unit])
    yield lambda: client.get_with_data(_REGISTER, _BUFFER, b"")
    yield lambda: client.get_data(_BUFFER)
    yield lambda: client.set(_REGISTER, axdr.octets(bytes(300)))
    yield lambda: client.act(_SHIFT, axdr.number(Tag.I16, 5))
    yield lambda: client.act(_SHIFT, axdr.octets(bytes(300)))


def _talk(security: Callable[[], Security], data: bytes) -> None:
    """An association, and then every service until the meter has said all."""
    carrier = ScriptedCarrier(records(data))
    client = Client(
        carrier,
        security(),
        name="fuzzed",
        general_blocks=True,
        release=True,
        random_bytes=lambda count: _CHALLENGE[:count],
        invoke_ids=(1,),
    )
    refused: DlmsError | None = None
    with client:
        for ask in ask_everything(client):
            if not carrier.left:
                break
            try:
                ask()
            except DlmsError as error:
                refused = error
    if refused is not None:
        raise refused


def _plain(data: bytes) -> None:
    _talk(lambda: Security("lls", password=b"loadscape"), data)


_VALUE: Final = axdr.structure(axdr.number(Tag.I8, 0), axdr.number(Tag.ENUM, 30))


def aare(conformance: int, max_pdu: int) -> bytes:
    """An accepted association without ciphering."""
    return (
        bytes.fromhex("6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f0400")
        + conformance.to_bytes(3, "big")
        + max_pdu.to_bytes(2, "big")
        + b"\x00\x07"
    )


def _block(tag: int, number: int, last: bool, data: bytes) -> bytes:
    choice = b"\x00" if tag == 0xC4 else b""
    head = bytes([tag, 2, 0x41, last]) + number.to_bytes(4, "big")
    return head + choice + axdr.length(len(data)) + data


def _piece(number: int, last: bool, data: bytes, *, streaming: bool = False) -> bytes:
    control = (0x80 if last else 0) | (0x40 if streaming else 0) | 1
    counters = number.to_bytes(2, "big") + bytes(2)
    return bytes([0xE0, control]) + counters + axdr.length(len(data)) + data


def _whole() -> dict[str, list[bytes]]:
    """Ways to answer each service properly."""
    get = b"\xc4\x01\x41\x00" + _VALUE
    action = b"\xc7\x01\x41\x00\x01\x00" + _VALUE
    two = b"\x02\x00" + _VALUE + b"\x00" + _VALUE
    return {
        "get": [get],
        "get in blocks": [_block(0xC4, 1, False, _VALUE[:3]), _block(0xC4, 2, True, _VALUE[3:])],
        "get in pieces": [_piece(1, False, get[:4]), _piece(2, True, get[4:])],
        "get streamed": [_piece(1, False, get[:4], streaming=True), _piece(2, True, get[4:])],
        "list": [b"\xc4\x03\x41" + two],
        "set": [b"\xc5\x01\x41\x00"],
        "set in blocks": [
            b"\xc5\x02\x41\x00\x00\x00\x01",
            b"\xc5\x02\x41\x00\x00\x00\x02",
            b"\xc5\x03\x41\x00\x00\x00\x00\x03",
        ],
        "action": [action],
        "long action": [
            b"\xc7\x04\x41\x00\x00\x00\x01",
            b"\xc7\x04\x41\x00\x00\x00\x02",
            action,
        ],
        "action in blocks": [
            _block(0xC7, 1, False, b"\x00\x01"),
            _block(0xC7, 2, True, b"\x00" + _VALUE),
        ],
    }


def _plain_seeds() -> Sequence[bytes]:
    ways = _whole()
    all_services, no_lists = 0x00FE1F, 0x001814
    scripts = [
        [
            aare(all_services, 0),
            *ways["get"],
            *ways["list"],
            *ways["list"],
            *ways["get in blocks"],
        ],
        [
            aare(all_services, 128),
            *ways["get streamed"],
            *ways["list"] * 2,
            *ways["get in pieces"],
        ],
        [
            aare(no_lists | 0x000401, 128),
            *ways["get"] * 6,
            *ways["set in blocks"],
            *ways["action in blocks"],
            *ways["long action"],
        ],
        [
            aare(no_lists, 0),
            *ways["get"] * 6,
            *ways["set"],
            *ways["action"],
            b"\x63\x03\x80\x01\x00",
        ],
        [aare(no_lists, 0), b"\xd8\x01\x02", b"\xc4\x01\x41\x01\x03", b"\x0e\x01\x06\x01"],
    ]
    return [*map(as_records, scripts), as_records(bench_session().apdus[:12])]


def _ciphered(data: bytes) -> None:
    security = Security(
        "hls-gmac", "global", keys=KEYS, client_title=CLIENT_TITLE, counter=Counter()
    )
    _talk(lambda: security, data)


def _ciphered_seeds() -> Sequence[bytes]:
    """A ciphered association with HLS whose proof is right, as the client's challenge is known."""
    initiate = bytes.fromhex("0800065f1f0400") + bytes.fromhex("00fe1f") + bytes.fromhex("04000007")
    body = (
        tlv(0xA1, tlv(0x06, APPLICATION_CONTEXT_LN_CIPHERED))
        + bytes.fromhex("a203020100a305a10302010e")
        + tlv(0xA4, tlv(0x04, METER_TITLE))
        + bytes.fromhex("88020780")
        + tlv(0x89, MECHANISM_HLS_GMAC)
        + tlv(0xAA, tlv(0x80, bytes(range(16))))
        + tlv(0xBE, tlv(0x04, sealed(0x28, 0x30, 1, initiate)))
    )
    counter = (1).to_bytes(4, "big")
    known = b"\x10" + KEYS.authentication + _CHALLENGE
    tag = AESGCM(KEYS.encryption).encrypt(METER_TITLE + counter, b"", known)[:12]
    proof = b"\xc7\x01\x41\x00\x01\x00" + axdr.octets(b"\x10" + counter + tag)
    ways = _whole()
    plain = [proof, *ways["get"], *ways["list"] * 2, *ways["get"], *ways["set"], *ways["action"]]
    wrapped = {0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF}
    answers = [sealed(wrapped[apdu[0]], 0x30, 2 + n, apdu) for n, apdu in enumerate(plain)]
    aare = tlv(0x61, body)
    return [as_records([aare, *answers[:upto]]) for upto in (1, 2, len(answers))]


def _endless(size: int) -> Sequence[bytes]:
    """Answers in so many parts that they never end."""
    blocks = [_block(0xC4, number, False, b"\x00") for number in range(1, size // 13)]
    pieces = [_piece(number, False, b"", streaming=True) for number in range(1, size // 9)]
    ends = [_piece(number, False, b"") for number in range(1, size // 9)]
    return [as_records([aare(0x00FE1F, 0), *parts]) for parts in (blocks, pieces, ends)]


DECODERS: Final = (
    Decoder("client", _plain, (DlmsError,), _plain_seeds, _endless, 30, 64),
    Decoder("client-ciphered", _ciphered, (DlmsError,), _ciphered_seeds),
)
