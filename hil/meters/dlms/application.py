"""One simulated meter's application layer: association, proof, ciphers, and then its services."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agent.dlms import axdr
from hil.meters.dlms import association as acse
from hil.meters.dlms import general_blocks
from hil.meters.dlms.general_blocks import GeneralBlocks
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.names import ASSOCIATION
from hil.meters.dlms.objects import Objects
from hil.meters.dlms.results import DENIED, SUCCESS
from hil.meters.dlms.security import (
    AssociationCipher,
    Ciphering,
    CounterTooLow,
    MeterSecurity,
    Undecipherable,
)
from hil.meters.dlms.services import MALFORMED, SERVICE_NOT_ALLOWED, SERVICE_UNKNOWN, Services
from hil.meters.shown import Registers

OnRead = Callable[[str, float, Registers], None]
"""Called with serial, instant and registers whenever a meter answers for its energy registers."""

_DECIPHERING_ERROR: Final = b"\xd8\x01\x05"
_COUNTER_ERROR: Final = b"\xd8\x01\x06"
_INITIATE_DECIPHERING_ERROR: Final = bytes.fromhex("0e010006")
_TITLE_BYTES: Final = 8
_REPLY_TO_HLS: Final = b"\x00\x0f" + ASSOCIATION + b"\x01"
_WINDOW: Final = 4
"""Pieces streamed before the client has said how many it takes."""
_ANY_LENGTH: Final = 1 << 24


class TrueClock(Protocol):
    """True time, from which each meter's clock differs as it likes."""

    def now_utc_s(self) -> float: ...


@dataclass(slots=True)
class _Association:
    services: Services
    longest: int
    """Longest APDU that the client takes, bytes."""
    cipher: AssociationCipher | None = None
    demanded: Ciphering = "none"
    general_blocks: GeneralBlocks | None = None
    proof: _Proof | None = None
    """What the client still has to prove; nothing else is served before."""


@dataclass(frozen=True, slots=True)
class _Proof:
    ours: bytes
    theirs: bytes
    title: bytes
    heard: int
    """Counter heard in the AARQ: that of the proof is higher."""


class Application:
    """Serves the APDUs of one link after another; a new link begins without association."""

    def __init__(self, meter: DlmsMeter, clock: TrueClock, on_read: OnRead | None = None) -> None:
        self._meter = meter
        self._clock = clock
        self._on_read = on_read
        self._objects: Objects | None = None
        self._association: _Association | None = None

    def reset(self) -> None:
        """The link has ended."""
        self._association = None

    def serve(self, sap: int, apdu: bytes) -> list[bytes]:
        """What a client's APDU is answered with: one APDU, a stream of them, or nothing."""
        try:
            if apdu[:1] == b"\x60":
                return [self._associate(sap, apdu)]
            if apdu[:1] == b"\x62":
                return [self._release()]
            if self._association is None or not apdu:
                return [SERVICE_NOT_ALLOWED if apdu else SERVICE_UNKNOWN]
            return self._carried(self._association, apdu)
        except (axdr.AxdrError, IndexError):
            return [MALFORMED]
        except acse.NotProposed:
            return [SERVICE_UNKNOWN]
        except Undecipherable:
            return [_DECIPHERING_ERROR]
        except CounterTooLow:
            return self._too_low()

    def _too_low(self) -> list[bytes]:
        quirks, security = self._meter.quirks, self._meter.security
        if security is None or "silent to low counters" in quirks:
            return []
        if "counter error as deciphering error" in quirks:
            return [_DECIPHERING_ERROR]
        return [_COUNTER_ERROR + (security.heard + 1).to_bytes(4, "big")]

    def _release(self) -> bytes:
        self.reset()
        if "RLRQ refused" in self._meter.quirks:
            return b"\xd8\x01\x02"
        size = 4 if "RLRE of a wrong length" in self._meter.quirks else 3
        return bytes([0x63, size, 0x80, 1, 0])

    def _associate(self, sap: int, aarq: bytes) -> bytes:
        self.reset()
        asked = acse.proposal(aarq)
        public = sap == acse.PUBLIC_SAP
        security = None if public else self._meter.security
        ciphered = security is not None and security.ciphering != "none"
        context = acse.CONTEXT_CIPHERED if ciphered else acse.CONTEXT_PLAIN
        try:
            self._check(asked, context, security, public=public)
            cipher = AssociationCipher(security, asked.title) if security and ciphered else None
            proposed = self._proposed(asked, cipher, security)
        except acse.Rejected as refused:
            return acse.answer(context, acse.REJECTED, refused.diagnostic, refused.error)
        association = self._agreed(proposed, cipher, security, public=public)
        self._association = association
        agreed = acse.initiate_response(self._conformance(proposed), self._meter.max_request)
        agreed = agreed if cipher is None else cipher.sealed(agreed)
        title = b"" if security is None else security.title
        if security is None or security.mechanism != "hls-gmac":
            return acse.answer(context, acse.ACCEPTED, 0, agreed, title=title)
        ours = hashlib.sha256(aarq + (security.said + 1).to_bytes(4, "big")).digest()[:16]
        association.proof = _Proof(ours, asked.authentication, asked.title, security.heard)
        return acse.answer(
            context,
            acse.ACCEPTED,
            acse.PROOF_REQUIRED,
            agreed,
            title=title,
            mechanism=acse.HLS_GMAC,
            challenge=ours,
        )

    def _check(
        self,
        asked: acse.Proposal,
        context: bytes,
        security: MeterSecurity | None,
        *,
        public: bool,
    ) -> None:
        """Raises Rejected unless context, mechanism, password and title are as they have to be."""
        meter = self._meter
        if asked.context != context:
            raise acse.Rejected(acse.CONTEXT_NOT_SUPPORTED)
        demanded = "lls" if security is None else security.mechanism
        if public or (demanded == "lls" and meter.password is None):
            demanded = "none"
        if asked.mechanism != acse.MECHANISMS[demanded]:
            raise acse.Rejected(
                acse.MECHANISM_NOT_RECOGNIZED if asked.mechanism else acse.MECHANISM_REQUIRED
            )
        if demanded == "lls" and asked.authentication != meter.password:
            raise acse.Rejected(acse.UNPROVEN)
        has_nonce = demanded == "hls-gmac" or context == acse.CONTEXT_CIPHERED
        if has_nonce and len(asked.title) != _TITLE_BYTES:
            raise acse.Rejected(acse.TITLE_NOT_RECOGNIZED)

    def _proposed(
        self,
        asked: acse.Proposal,
        cipher: AssociationCipher | None,
        security: MeterSecurity | None,
    ) -> acse.Initiate:
        """The initiate-request in the clear; raises NotProposed, Rejected and CounterTooLow."""
        if cipher is None or security is None:
            proposed = acse.initiate(asked.initiate)
        else:
            try:
                proposed = acse.initiate(cipher.opened(asked.initiate, "global"))
            except Undecipherable as error:
                raise acse.Rejected(acse.NO_REASON, _INITIATE_DECIPHERING_ERROR) from error
            if len(proposed.dedicated_key) not in (0, len(security.encryption_key)):
                raise acse.initiate_error(acse.REFUSED_BY_METER)
            cipher.dedicated_key = proposed.dedicated_key
        if not self._conformance(proposed):
            raise acse.initiate_error(acse.CONFORMANCE_INCOMPATIBLE)
        return proposed

    def _conformance(self, proposed: acse.Initiate) -> int:
        meter = self._meter
        offered = acse.GET | acse.SELECTIVE | acse.BLOCKS_GET
        offered |= acse.LISTS if meter.lists else 0
        if meter.settable:
            offered |= acse.SET | acse.BLOCKS_SET | acse.ACTION | acse.BLOCKS_ACTION
        offered |= acse.GENERAL_BLOCKS if meter.general_blocks else 0
        if meter.security is not None:
            offered |= acse.ACTION | acse.BLOCKS_ACTION
            if meter.security.ciphering == "general-global":
                offered |= acse.GENERAL_PROTECTION
        return proposed.conformance & offered

    def _agreed(
        self,
        proposed: acse.Initiate,
        cipher: AssociationCipher | None,
        security: MeterSecurity | None,
        *,
        public: bool,
    ) -> _Association:
        conformance = self._conformance(proposed)
        longest = min(proposed.max_pdu or 0xFFFF, self._meter.max_pdu)
        in_pieces = bool(conformance & acse.GENERAL_BLOCKS)
        room = _ANY_LENGTH if in_pieces else longest - (cipher.overhead if cipher else 0)
        association = _Association(
            Services(
                self._look,
                public=public,
                conformance=conformance,
                room=room,
                quirks=self._meter.quirks,
            ),
            longest,
            cipher,
            "none" if security is None else security.ciphering,
        )
        if in_pieces:
            association.general_blocks = GeneralBlocks(
                lambda whole: self._answered(association, whole), longest
            )
        return association

    def _look(self) -> Objects:
        self._objects = Objects(self._meter, self._clock.now_utc_s())
        return self._objects

    def _carried(self, association: _Association, apdu: bytes) -> list[bytes]:
        pieces = association.general_blocks
        if apdu[0] == general_blocks.TAG:
            return [SERVICE_UNKNOWN] if pieces is None else pieces.receive(apdu)
        answer = self._answered(association, apdu)
        if pieces is not None and len(answer) > association.longest:
            return pieces.answer(answer, _WINDOW)
        return [answer]

    def _answered(self, association: _Association, apdu: bytes) -> bytes:
        """The answer to a whole APDU, ciphered as the request was; refusals are in the clear."""
        cipher = association.cipher
        plain = apdu
        if cipher is not None:
            waits = association.proof is not None
            plain = cipher.opened(apdu, "global" if waits else association.demanded)
        if association.proof is not None:
            answer = self._prove(association, association.proof, plain)
        else:
            answer = association.services.serve(plain)
        self._tell()
        return answer if cipher is None or answer[0] == 0xD8 else cipher.sealed(answer)

    def _tell(self) -> None:
        objects, self._objects = self._objects, None
        if self._on_read is None or objects is None or objects.registers_read is None:
            return
        self._on_read(self._meter.shown.serial, objects.at_utc_s, objects.registers_read)

    def _prove(self, association: _Association, wanted: _Proof, plain: bytes) -> bytes:
        """The client's f(StoC) against ours; then our f(CtoS)."""
        security = self._meter.security
        if security is None or plain[:2] != b"\xc3\x01" or plain[3:12] != _REPLY_TO_HLS:
            return SERVICE_NOT_ALLOWED
        given, _ = axdr.decode(plain, 13)
        if not isinstance(given, bytes) or given != security.proof(
            wanted.title, given[1:5], wanted.ours
        ):
            return bytes([0xC7, 1, plain[2], DENIED, 0])
        count = int.from_bytes(given[1:5], "big")
        if count <= wanted.heard:
            raise CounterTooLow(f"counter {count}, {wanted.heard} was heard before")
        security.heard = max(security.heard, count)
        association.proof = None
        ours = security.proof(security.title, security.next_count(), wanted.theirs)
        return bytes([0xC7, 1, plain[2], SUCCESS, 1, 0]) + axdr.octets(ours)
