"""A meter that associates with HLS-GMAC and global ciphering, and has one row in its load profile.

No more than a full line's timing needs: what it is asked for is deciphered and
its proof is checked, so that a wrong client gets no row; whatever GET it is
asked, the row is the answer. Suite 0. Source: DLMS UA Green Book ed. 8, 9.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.dlms import axdr
from hil.line.responder import Answer
from hil.meters.hdlc_server import Ear, Station

ENCRYPTION_KEY: Final = bytes(range(16))
AUTHENTICATION_KEY: Final = bytes(range(16, 32))
CLIENT_TITLE: Final = b"LSA\x00\x00\x00\x00\x01"
_TITLE: Final = b"LSM\x00\x00\x00\x00\x02"
_CHALLENGE: Final = bytes(range(0x60, 0x70))
_LLC: Final = b"\xe6\xe7\x00"
_TAG_BYTES: Final = 12
_CONTEXT: Final = bytes.fromhex("a109060760857405080103")
_GMAC: Final = bytes.fromhex("88020780890760857405080205")
_INITIATE: Final = bytes.fromhex("0800065f1f0400001014ffff0007")
_ACCEPTED: Final = bytes.fromhex("a203020100a305a10302010e")
_REFUSED: Final = b"\xd8\x01\x05"


class GmacMeters:
    """All meters of one line; each has an address of one byte and the same row."""

    def __init__(self, addresses: Iterable[int], row: bytes, reaction_s: float) -> None:
        """`row` is the encoded buffer; `reaction_s` is from a request's end to the answer."""
        self._reaction_s = reaction_s
        self._ear = Ear()
        self._stations = {}
        for address in addresses:
            meter = _Meter(row)
            self._stations[bytes([address << 1 | 1])] = Station(meter.serve, meter.reset)

    def receive(self, data: bytes) -> list[Answer]:
        answers = []
        for heard in self._ear.hear(data):
            station = self._stations.get(heard.to)
            if station is not None:
                answers.append(Answer(station.receive(heard), self._reaction_s))
        return answers


class _Meter:
    def __init__(self, row: bytes) -> None:
        self._row = row
        self._counter = 0
        self.reset()

    def reset(self) -> None:
        self._challenge = b""
        self._proven = False

    def serve(self, _sap: int, request: bytes) -> bytes:
        apdu = request[3:]
        if apdu[:1] == b"\x60":
            return _LLC + self._associate(apdu)
        plain = _opened(apdu)
        if plain[:2] == b"\xc3\x01":
            return _LLC + self._prove(plain)
        if plain[:2] == b"\xc0\x01" and self._proven:
            return _LLC + self._sealed(0xCC, b"\xc4\x01" + plain[2:3] + b"\x00" + self._row)
        return _LLC + _REFUSED

    def _associate(self, apdu: bytes) -> bytes:
        at = apdu.find(b"\xac\x12\x80\x10")
        self._challenge = apdu[at + 4 : at + 20]
        sealed = self._sealed(0x28, _INITIATE)
        body = (
            _CONTEXT
            + _ACCEPTED
            + (b"\xa4\x0a\x04\x08" + _TITLE)
            + _GMAC
            + (b"\xaa\x12\x80\x10" + _CHALLENGE)
            + bytes([0xBE, len(sealed) + 2, 4, len(sealed)])
            + sealed
        )
        return bytes([0x61, len(body)]) + body

    def _prove(self, plain: bytes) -> bytes:
        """The client's f(StoC) against ours; then f(CtoS)."""
        given, _ = axdr.decode(plain, 13)
        if given[5:] != _gmac(CLIENT_TITLE + given[1:5], _CHALLENGE):
            return _REFUSED
        self._proven = True
        count = self._next()
        proof = b"\x10" + count + _gmac(_TITLE + count, self._challenge)
        return self._sealed(0xCF, b"\xc7\x01" + plain[2:3] + b"\x00\x01\x00" + axdr.octets(proof))

    def _sealed(self, tag: int, plain: bytes) -> bytes:
        count = self._next()
        known = b"\x30" + AUTHENTICATION_KEY
        text = AESGCM(ENCRYPTION_KEY).encrypt(_TITLE + count, plain, known)
        body = b"\x30" + count + text[: len(plain) + _TAG_BYTES]
        return bytes([tag]) + axdr.length(len(body)) + body

    def _next(self) -> bytes:
        self._counter += 1
        return self._counter.to_bytes(4, "big")


def _gmac(nonce: bytes, challenge: bytes) -> bytes:
    known = b"\x10" + AUTHENTICATION_KEY + challenge
    return AESGCM(ENCRYPTION_KEY).encrypt(nonce, b"", known)[:_TAG_BYTES]


def _opened(apdu: bytes) -> bytes:
    """The plain request; raises InvalidTag."""
    _, at = axdr.read_length(apdu, 1)
    body = apdu[at:]
    mode = modes.GCM(CLIENT_TITLE + body[1:5], body[-_TAG_BYTES:], min_tag_length=_TAG_BYTES)
    decryptor = Cipher(algorithms.AES(ENCRYPTION_KEY), mode).decryptor()
    decryptor.authenticate_additional_data(body[:1] + AUTHENTICATION_KEY)
    return decryptor.update(body[5:-_TAG_BYTES]) + decryptor.finalize()
