"""APDUs: what a meter answers to each service, what it says unasked, what comes ciphered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.dlms import axdr
from agent.dlms.apdu.action import action_response, joined_return
from agent.dlms.apdu.association import association_response
from agent.dlms.apdu.general_block import general_block
from agent.dlms.apdu.get import get_response, list_results, value_and_rest
from agent.dlms.apdu.notification import Notifications
from agent.dlms.apdu.set import set_response
from agent.dlms.constants import Tag
from agent.dlms.errors import DlmsError
from agent.dlms.security.cipher import Cipher, PushCipher
from agent.dlms.security.settings import Keys, Security
from hil.fuzz.decoders import Decoder
from hil.fuzz.link import Overgrown
from hil.fuzz.seeds import bench_session, captured_with

KEYS: Final = Keys(encryption=bytes(range(16)), authentication=bytes(range(16, 32)))
METER_TITLE: Final = b"LSF\x00\x00\x00\x00\x01"
CLIENT_TITLE: Final = b"LSA\x00\x00\x00\x00\x01"
_LONGEST_JOINED: Final = 2048
_EXCEPTION: Final = bytes.fromhex("d80106")
_COUNTER_EXCEPTION: Final = bytes.fromhex("d801060000abcd")
_SERVICE_ERROR: Final = bytes.fromhex("0e010601")
_VALUE: Final = axdr.structure(axdr.octets(b"LS0000001"), axdr.number(Tag.U32, 5))
_NOTIFICATION: Final = b"\x0f\x00\x00\x00\x01\x0c" + bytes(12) + _VALUE


class Counter:
    """An invocation counter that nobody keeps."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last

    def raise_above(self, value: int) -> None:
        self._last = max(self._last, value)


def _invoke(data: bytes) -> int:
    """The number that an answer bears: it is taken as the one to the request with that number."""
    return data[2] & 0x0F if len(data) > 2 else 0


def _get(data: bytes) -> None:
    list_results(get_response(data, _invoke(data)).data)


def _action(data: bytes) -> None:
    answer = action_response(data, _invoke(data))
    if answer.block:
        joined_return(answer.data or b"")


def _notified(data: bytes) -> None:
    """Two-byte size and an APDU, again and again: one listener hears them all."""
    listener = Notifications(longest=_LONGEST_JOINED)
    for apdu in records(data):
        said = listener.receive(apdu)
        if said is not None and len(said.tail) > _LONGEST_JOINED:
            raise Overgrown(f"a notification of more than {_LONGEST_JOINED} bytes")


def records(data: bytes) -> list[bytes]:
    """APDUs, each after its size in two bytes; the last one may be cut short."""
    found, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    return found


def as_records(apdus: Sequence[bytes]) -> bytes:
    """The inverse of `records`."""
    return b"".join(len(apdu).to_bytes(2, "big") + apdu for apdu in apdus)


def cipher() -> Cipher:
    """The client's end of a ciphered association with the meter that these inputs are from."""
    security = Security(
        "hls-gmac", "global", keys=KEYS, client_title=CLIENT_TITLE, counter=Counter()
    )
    return Cipher(security, METER_TITLE)


def _reveal(data: bytes) -> None:
    if len(cipher().reveal(data)) > len(data):
        raise Overgrown("more was revealed than was there")


def _reveal_sealed(data: bytes) -> None:
    """Tag, security control and plain text: sealed rightly, so that the tag lets them through."""
    if len(data) >= 2:
        _reveal(sealed(data[0], data[1], 7, data[2:]))


def _reveal_push(data: bytes) -> None:
    """Security control and plain text of a notification, sealed rightly."""
    if data and len(PushCipher(KEYS).reveal(sealed(0xDB, data[0], 7, data[1:]))) > len(data):
        raise Overgrown("more was revealed than was there")


def sealed(tag: int, control: int, counter: int, plain: bytes) -> bytes:
    """A ciphered APDU of the meter's, as the standard's figure of it says."""
    head = bytes([control]) + counter.to_bytes(4, "big")
    known = bytes([control]) + KEYS.authentication
    nonce = METER_TITLE + head[1:]
    text = AESGCM(KEYS.encryption).encrypt(nonce, plain, known)[: len(plain) + 12]
    title = axdr.length(8) + METER_TITLE if tag in (0xDB, 0xDC) else b""
    return bytes([tag]) + title + axdr.length(len(head + text)) + head + text


def _refusals() -> list[bytes]:
    return [_EXCEPTION, _COUNTER_EXCEPTION, _SERVICE_ERROR]


def _get_seeds() -> Sequence[bytes]:
    answers = bench_session().answers(0xC4)
    refused = [bytes.fromhex("c401410103"), bytes.fromhex("c4024101000000010113")]
    return [*answers, *refused, *_refusals(), *captured_with(0xC4)]


def _list_seeds() -> Sequence[bytes]:
    results = [apdu[3:] for apdu in bench_session().answers(0xC4) if apdu[1] == 3]
    return [*results, bytes.fromhex("0201030011ff")]


def _set_seeds() -> Sequence[bytes]:
    answers = ["c5014100", "c5014103", "c5024100000001", "c503410000000002", "c503410c00000002"]
    return [*map(bytes.fromhex, answers), *_refusals(), *captured_with(0xC5)]


def _action_seeds() -> Sequence[bytes]:
    whole = bytes.fromhex("c70141000100") + _VALUE
    block = bytes.fromhex("c702410100000001") + axdr.length(3 + len(_VALUE)) + b"\x00\x01\x00"
    short = [
        bytes.fromhex(text)
        for text in ("c7014100", "c701410000", "c701410c00", "c7014100010103", "c7044100000001")
    ]
    return [whole, block + _VALUE, *short, *_refusals(), *captured_with(0xC7)]


def _association_seeds() -> Sequence[bytes]:
    return [*bench_session().answers(0x61), *_refusals(), *captured_with(0x61)]


def _block_seeds() -> Sequence[bytes]:
    return [*pieces(_NOTIFICATION), *pieces(bytes(300)), *captured_with(0xE0)]


def pieces(apdu: bytes) -> list[bytes]:
    """An APDU in general blocks of 16 bytes."""
    parts = [apdu[at : at + 16] for at in range(0, len(apdu), 16)]
    return [
        bytes([0xE0, 0x80 if number == len(parts) else 0])
        + number.to_bytes(2, "big")
        + bytes(2)
        + axdr.length(len(part))
        + part
        for number, part in enumerate(parts, 1)
    ]


def _notification_seeds() -> Sequence[bytes]:
    tagged = b"\x0f\x00\x00\x00\x01\x09\x0c" + bytes(12) + _VALUE
    bare = b"\x0f\x00\x00\x00\x01\x00" + _VALUE
    alone = [as_records([apdu]) for apdu in (_NOTIFICATION, tagged, bare, *captured_with(0x0F))]
    return [*alone, as_records(pieces(_NOTIFICATION)), as_records([bare, *pieces(tagged), bare])]


def _many_pieces(size: int) -> Sequence[bytes]:
    piece = bytes.fromhex("e000") + bytes(4) + b"\x00"
    numbered = [piece[:2] + number.to_bytes(2, "big") + piece[4:] for number in range(1, size // 9)]
    return [as_records(numbered)]


def _ciphered_seeds() -> Sequence[bytes]:
    answers = bench_session().answers(0xC4)
    glo = [sealed(0xCC, 0x30, number, plain) for number, plain in enumerate(answers)]
    general = [sealed(0xDB, 0x30, number, plain) for number, plain in enumerate(answers)]
    return [*glo, *general, *_refusals(), *captured_with(0xCC, 0xDB, 0x28, 0xCF)]


def _sealed_seeds() -> Sequence[bytes]:
    tags = (0xCC, 0xDB, 0x28, 0xD4, 0xDC)
    controls = (0x30, 0x10, 0x20, 0x32, 0x70, 0xB0)
    plain = [*bench_session().answers(0xC4)[:4], b"\xc7\x01\x41\x00", b"\x08\x00", b""]
    return [bytes([tag, control]) + text for tag in tags for control in controls for text in plain]


DECODERS: Final = (
    Decoder("get-response", _get, (DlmsError,), _get_seeds),
    Decoder("get-list", value_and_rest, (DlmsError,), _list_seeds),
    Decoder(
        "set-response", lambda data: set_response(data, _invoke(data)), (DlmsError,), _set_seeds
    ),
    Decoder("action-response", _action, (DlmsError,), _action_seeds),
    Decoder("association-response", association_response, (DlmsError,), _association_seeds),
    Decoder("general-block", general_block, (DlmsError,), _block_seeds),
    Decoder("notification", _notified, (DlmsError,), _notification_seeds, _many_pieces),
    Decoder("ciphered", _reveal, (DlmsError,), _ciphered_seeds),
    Decoder("ciphered-sealed", _reveal_sealed, (DlmsError,), _sealed_seeds),
    Decoder(
        "ciphered-push",
        _reveal_push,
        (DlmsError,),
        lambda: [bytes([control]) + _NOTIFICATION for control in (0x30, 0x10, 0x20, 0x70, 0xB0)],
    ),
)
