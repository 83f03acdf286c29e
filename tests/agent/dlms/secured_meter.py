"""A carrier whose far end is a function; a ciphering meter made without the client's ciphers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.dlms.errors import NoAnswer
from agent.dlms.security.settings import Keys, Security

CLIENT_TITLE = bytes.fromhex("4d4d4d0000bc614e")
METER_TITLE = b"METERONE"
STOC = b"server challenge"
KEYS = {
    0: Keys(
        bytes.fromhex("000102030405060708090a0b0c0d0e0f"),
        bytes.fromhex("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"),
    ),
    2: Keys(bytes(range(32)), bytes(range(32, 64))),
}


class Spoken:
    """A `Carrier`: `say` gives the answer to each APDU, or several, of which the rest streams."""

    longest_answer = 1 << 16

    def __init__(self, say: Callable[[bytes], bytes | list[bytes]]) -> None:
        self._say = say
        self._streaming: list[bytes] = []
        self.asked: list[bytes] = []
        self.is_open = False
        self.closed = 0

    def open(self) -> None:
        self.is_open = True

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        assert self.is_open
        self.asked.append(apdu)
        said = self._say(apdu)
        answers = [said] if isinstance(said, bytes) else list(said)
        self._streaming = answers[1:]
        if not answers:
            raise NoAnswer(f"no answer to {what}")
        return answers[0]

    def more(self, what: str) -> bytes:
        if not self._streaming:
            raise NoAnswer(f"nothing more of {what}")
        return self._streaming.pop(0)

    def close(self) -> None:
        self.is_open = False
        self.closed += 1


class Counter:
    """An invocation counter that remembers all that it gave."""

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self.given: list[int] = []

    def next(self) -> int:
        self.given.append(self._next)
        self._next += 1
        return self.given[-1]

    def raise_above(self, value: int) -> None:
        self._next = max(self._next, value + 1)


def a_security(**changes: object) -> Security:
    """A client's settings that suit `SecuredMeter`."""
    suite = changes.get("suite", 0)
    settings: dict[str, object] = {
        "mechanism": "hls-gmac",
        "ciphering": "global",
        "keys": KEYS[suite],  # type: ignore[index]
        "client_title": CLIENT_TITLE,
        "counter": Counter(),
    }
    return Security(**(settings | changes))  # type: ignore[arg-type]


def fields_of(aarq: bytes) -> dict[int, bytes]:
    """Tag and content of the elements of an AARQ."""
    at = 2 if aarq[1] < 128 else 3
    found = {}
    while at < len(aarq):
        found[aarq[at]] = aarq[at + 2 : at + 2 + aarq[at + 1]]
        at += 2 + aarq[at + 1]
    return found


def size_of(body: bytes) -> bytes:
    return bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")


def ciphered(
    plain: bytes,
    counter: int,
    tag: int = 0xCC,
    *,
    control: int = 0x30,
    key: bytes = KEYS[0].encryption,
    authentication: bytes = KEYS[0].authentication,
    title: bytes = METER_TITLE,
) -> bytes:
    """What a meter would send."""
    nonce = title + counter.to_bytes(4, "big")
    known = bytes([control]) + authentication
    if control & 0x30 == 0x30:
        text = AESGCM(key).encrypt(nonce, plain, known)[: len(plain) + 12]
    elif control & 0x30 == 0x20:
        text = AESGCM(key).encrypt(nonce, plain, None)[: len(plain)]
    else:
        text = plain + AESGCM(key).encrypt(nonce, b"", known + plain)[:12]
    body = bytes([control]) + counter.to_bytes(4, "big") + text
    head = bytes([tag]) + (b"\x08" + title if tag in (0xDB, 0xDC) else b"")
    return head + size_of(body) + body


REPLY_TAGS = {0x21: 0x28, 0xC8: 0xCC, 0xC9: 0xCD, 0xCB: 0xCF, 0xD0: 0xD4, 0xD1: 0xD5, 0xD3: 0xD7}


@dataclass
class SecuredMeter:
    """Associates with GMAC and ciphering, and answers plain requests as `serve` says.

    Each field is a habit; the callables change what the meter would send.
    """

    serve: Callable[[bytes], bytes]
    suite: int = 0
    conformance: int = 0x401E1D
    max_pdu: int = 512
    diagnostic: int = 14
    result: int = 0
    context: int = 3
    mechanism: int = 5
    title: bytes = METER_TITLE
    told_title: bytes | None = None
    challenge: bytes = STOC
    first_counter: int = 0
    proof: Callable[[bytes], bytes] = bytes
    carried: Callable[[bytes], bytes] = bytes
    dedicated: bytes = b""
    client_counters: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counter = self.first_counter - 1
        self.plain: list[bytes] = []

    def __call__(self, apdu: bytes) -> bytes:
        if apdu[0] == 0x60:
            return self._associate(apdu)
        if apdu[0] == 0x62:
            return bytes.fromhex("6303800100")
        request, at, key = apdu, 1, KEYS[self.suite].encryption
        if apdu[0] in (0xDB, 0xDC):
            assert apdu[1:10] == b"\x08" + CLIENT_TITLE
            at = 10
        elif apdu[0] in (0xD0, 0xD1, 0xD3):
            key = self.dedicated
        elif apdu[0] not in REPLY_TAGS:
            return self._answer(apdu)
        request = self._deciphered(apdu[at:], key)
        answer = self._answer(request)
        tag = REPLY_TAGS.get(apdu[0], apdu[0])
        return self.carried(self._ciphered(answer, tag, key))

    def _answer(self, request: bytes) -> bytes:
        self.plain.append(request)
        if request[:2] == b"\xc3\x01" and request[3:5] == b"\x00\x0f":
            return self._prove(request)
        return self.serve(request)

    def _deciphered(self, data: bytes, key: bytes) -> bytes:
        size, at = (data[0], 1) if data[0] < 128 else (int.from_bytes(data[1:3], "big"), 3)
        if data[0] == 0x81:
            size, at = data[1], 2
        body = data[at : at + size]
        assert body[0] == 0x30 | self.suite
        self.client_counters.append(int.from_bytes(body[1:5], "big"))
        nonce = CLIENT_TITLE + body[1:5]
        plain = AESGCM(key).encrypt(nonce, body[5:-12], None)[:-16]
        known = body[:1] + KEYS[self.suite].authentication
        assert AESGCM(key).encrypt(nonce, plain, known)[:-4] == body[5:]
        return plain

    def _ciphered(self, plain: bytes, tag: int, key: bytes) -> bytes:
        self.counter += 1
        return ciphered(
            plain,
            self.counter,
            tag,
            control=0x30 | self.suite,
            key=key,
            authentication=KEYS[self.suite].authentication,
            title=self.title,
        )

    def _associate(self, apdu: bytes) -> bytes:
        asked_with = fields_of(apdu)
        self.ours = asked_with.get(0xAC, b"")[2:]
        initiate = asked_with[0xBE][2:]
        is_ciphered = initiate[0] == 0x21
        if is_ciphered:
            initiate = self._deciphered(initiate[1:], KEYS[self.suite].encryption)
            if initiate[1] == 1:
                self.dedicated = initiate[3 : 3 + initiate[2]]
        asked = int.from_bytes(initiate[-5:-2], "big")
        agreed = (asked & self.conformance).to_bytes(3, "big") + self.max_pdu.to_bytes(2, "big")
        initiate = bytes.fromhex("0800065f1f0400") + agreed + b"\x00\x07"
        if is_ciphered:
            initiate = self._ciphered(initiate, 0x28, KEYS[self.suite].encryption)
        title = self.title if self.told_title is None else self.told_title
        answer = (
            bytes.fromhex("a109060760857405080" + f"10{self.context}")
            + bytes([0xA2, 3, 2, 1, self.result, 0xA3, 5, 0xA1, 3, 2, 1, self.diagnostic])
            + (bytes([0xA4, len(title) + 2, 4, len(title)]) + title if title else b"")
            + b"\x88\x02\x07\x80\x89\x07"
            + bytes.fromhex(f"608574050802{self.mechanism:02x}")
            + b"\xaa"
            + bytes([len(self.challenge) + 2, 0x80, len(self.challenge)])
            + self.challenge
            + b"\xbe"
            + bytes([len(initiate) + 2, 4, len(initiate)])
            + initiate
        )
        return b"\x61" + size_of(answer) + answer

    def gmac(self, title: bytes, count: bytes, challenge: bytes) -> bytes:
        control = bytes([0x10 | self.suite])
        keys = KEYS[self.suite]
        known = control + keys.authentication + challenge
        return control + count + AESGCM(keys.encryption).encrypt(title + count, b"", known)[:12]

    def _prove(self, request: bytes) -> bytes:
        """The answer to the client's proof, with the meter's own; refuses a wrong one."""
        given = request[15:]
        self.client_counters.append(int.from_bytes(given[1:5], "big"))
        if given != self.gmac(CLIENT_TITLE, given[1:5], self.challenge):
            return bytes([0xC7, 1, request[2], 3, 0])
        self.counter += 1
        proof = self.gmac(self.title, self.counter.to_bytes(4, "big"), self.ours)
        return bytes([0xC7, 1, request[2], 0, 1, 0, 9, 17]) + self.proof(proof)
