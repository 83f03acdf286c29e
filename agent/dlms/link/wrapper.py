"""The TCP wrapper (IEC 62056-47): each APDU with a head of eight bytes on a connection of its own.

TCP keeps order and loses nothing, so there is nothing to send again: one
request, one answer, one deadline. Whatever does not fit (a wrong head, an
answer that does not come) ends the connection, because nothing in the stream
says where the next head would begin, and a late answer must not meet a later
request.
"""

from __future__ import annotations

import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from agent.dlms.constants import Apdu
from agent.dlms.errors import AnswerMalformed, AnswerTooLarge, LinkLost, NoAnswer
from agent.dlms.link.settings import LinkSettings
from agent.line.port import Port

log = logging.getLogger(__name__)

VERSION: Final = 1
_HEAD: Final = struct.Struct(">HHHH")
"""Version, source wPort, destination wPort, length of the APDU."""
LONGEST_APDU: Final = 0xFFFF
_NOTIFICATIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Packet:
    """One APDU and between which ports of the wrapper it goes."""

    source: int
    destination: int
    apdu: bytes

    def encode(self) -> bytes:
        """The bytes on the connection; raises ValueError above 65535 bytes or ports."""
        try:
            head = _HEAD.pack(VERSION, self.source, self.destination, len(self.apdu))
        except struct.error as error:
            raise ValueError(
                f"expected wPorts and a length of 0 to 65535, came {self.source}, "
                f"{self.destination} and {len(self.apdu)} bytes"
            ) from error
        return head + self.apdu


class PacketCutter:
    """Cuts a connection's bytes into packets."""

    def __init__(self, longest: int = LONGEST_APDU) -> None:
        """`longest` is the longest APDU that is taken, in bytes."""
        self._longest = longest
        self._waiting = bytearray()

    @property
    def needed(self) -> int:
        """Fewest further bytes that can complete a packet."""
        waiting = self._waiting
        if len(waiting) < _HEAD.size:
            return _HEAD.size - len(waiting)
        size: int = _HEAD.unpack_from(waiting)[3]
        return max(1, _HEAD.size + size - len(waiting))

    @property
    def unfinished(self) -> bool:
        """Whether a packet has begun and not ended."""
        return bool(self._waiting)

    def clear(self) -> None:
        """Forget what has arrived: a new connection begins."""
        self._waiting.clear()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Packets that `data` completes; raises AnswerMalformed, AnswerTooLarge.

        After an error nothing in the stream can be trusted: end the connection.
        """
        waiting = self._waiting
        waiting += data
        while len(waiting) >= _HEAD.size:
            version, source, destination, size = _HEAD.unpack_from(waiting)
            if version != VERSION or not size:
                raise AnswerMalformed(
                    f"expected a wrapper head of version 1 with an APDU, came "
                    f"{bytes(waiting[: _HEAD.size]).hex()}; check that the far end speaks the "
                    'wrapper (framing = "hdlc" if it does not)'
                )
            if size > self._longest:
                raise AnswerTooLarge(
                    f"an answer of {size} bytes was announced, at most {self._longest} are taken"
                )
            end = _HEAD.size + size
            if len(waiting) < end:
                return
            apdu = bytes(waiting[_HEAD.size : end])
            del waiting[:end]
            yield Packet(source, destination, apdu)


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


class WrapperCarrier:
    """Implements `agent.dlms.link.carrier.Carrier` for one client and one meter on a connection."""

    def __init__(
        self,
        port: Port,
        settings: LinkSettings,
        *,
        client_sap: int,
        server_wport: int,
        name: str,
        observe: Callable[[str, bytes], None] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`observe` is called with "sent" or "heard" and the bytes of whole packets."""
        self._port = port
        self._settings = settings
        self._client = client_sap
        self._server = server_wport
        self._name = name
        self._observe = observe
        self._now_s = now_s
        self._cutter = PacketCutter(min(settings.longest_answer, LONGEST_APDU))
        self._packets: deque[Packet] = deque()
        self._notifications: deque[bytes] = deque(maxlen=_NOTIFICATIONS)
        self._opened = False

    @property
    def longest_answer(self) -> int:
        """Most bytes of one answer, blocks joined."""
        return self._settings.longest_answer

    def open(self) -> None:
        """A connection on which nothing waits; raises PortLost."""
        self._forget()
        self._port.discard()
        self._opened = True

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        """The answer; raises NoAnswer, LinkLost, AnswerMalformed, AnswerTooLarge, PortLost.

        `tries` is not used: TCP repeats by itself what was lost.
        """
        self._check_open(what)
        data = Packet(self._client, self._server, apdu).encode()
        if self._observe is not None:
            self._observe("sent", data)
        return self._answer(what, data)

    def more(self, what: str) -> bytes:
        """A further APDU that belongs to the last answer; errors as `request`."""
        self._check_open(what)
        return self._answer(what)

    def close(self) -> None:
        """Ends the connection: many meters have one only. The next `open` makes a new one."""
        self._opened = False
        self._forget()
        if isinstance(self._port, _Closable):
            self._port.close()

    def take_notifications(self) -> list[bytes]:
        """Notifications that came between answers since the last call; at most the newest 16."""
        taken = list(self._notifications)
        self._notifications.clear()
        return taken

    def _check_open(self, what: str) -> None:
        if not self._opened:
            raise LinkLost(
                f"{self._name}: {what}: expected an open connection, there is none; open it anew"
            )

    def _forget(self) -> None:
        self._cutter.clear()
        self._packets.clear()

    def _answer(self, what: str, request: bytes = b"") -> bytes:
        answered = False
        try:
            if request:
                self._port.write(request)
            apdu = self._awaited(what)
            answered = True
        except (AnswerMalformed, AnswerTooLarge) as error:
            raise type(error)(f"{self._name}: {what}: {error}") from error
        finally:
            if not answered:
                self.close()
        return apdu

    def _awaited(self, what: str) -> bytes:
        """The next APDU for us that is no notification, within one deadline."""
        deadline_s = self._now_s() + self._settings.exchange_s
        while True:
            while self._packets:
                packet = self._packets.popleft()
                # A meter pushes to whom its setup names, which need not be this client.
                if packet.apdu[0] == Apdu.DATA_NOTIFICATION:
                    self._notifications.append(packet.apdu)
                    continue
                if (packet.source, packet.destination) != (self._server, self._client):
                    raise AnswerMalformed(
                        f"expected an answer from wPort {self._server} to {self._client}, came one "
                        f"from {packet.source} to {packet.destination}; check server_address and "
                        "client_sap"
                    )
                return packet.apdu
            self._listen(what, deadline_s)

    def _listen(self, what: str, deadline_s: float) -> None:
        needed = self._cutter.needed
        wire_s = needed * self._port.char_s
        until_s = min(deadline_s, self._now_s() + self._settings.response_s + wire_s)
        data = self._port.read(needed, until_s, -math.inf)
        if not data:
            raise NoAnswer(
                f"{self._name}: no whole answer to {what}: nothing came for "
                f"{self._settings.response_s:.1f} s, or {self._settings.exchange_s:.0f} s were "
                "over; check server_address, client_sap and whether the meter has another client "
                "(raise response_s of the meter class for a slow network)"
            )
        for packet in self._cutter.feed(data):
            if self._observe is not None:
                self._observe("heard", packet.encode())
            self._packets.append(packet)
        if self._now_s() >= deadline_s and not self._packets:
            raise NoAnswer(f"{self._name}: {what} took longer than {self._settings.exchange_s} s")
