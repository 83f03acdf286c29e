"""A line of Modbus units whose time passes only while it is read or written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.line.port import PortLost
from agent.modbus.exchange import UnitExchange
from agent.modbus.frame import Frame
from agent.modbus.transaction import Answered, ReadRequest, Refused
from ext.checksum import crc16_modbus

CHAR_S = 10 / 9600
T35_S = 3.5 * CHAR_S
TIMEOUT_S = 0.3
WINDOW_S = 0.6
EPSILON_S = 1e-6

VOLTAGE = ReadRequest(7, 4, 0, 2)
ENERGY = ReadRequest(7, 4, 72, 2)


def sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")


@dataclass(frozen=True)
class Sent:
    """Bytes that a meter sends `delay_s` after the request's end, `gap_s` between two of them."""

    data: bytes
    delay_s: float = 0.0
    gap_s: float = 0.0
    latest_s: float = math.inf
    """Nothing is sent that would not be whole by then (an instant)."""


Meter = Callable[[bytes, "SimulatedLine"], list[Sent]]


@dataclass(eq=False)
class SimulatedLine:
    """A `Port` and a `Clock` whose time passes only while it is read or written."""

    meter: Meter
    now_s: float = 1000.0
    opened_at_s: float = 0.0
    char_s: float = CHAR_S
    requests: list[tuple[float, bytes]] = field(default_factory=list)
    lost_at_s: float = math.inf
    _coming: list[tuple[float, int]] = field(default_factory=list)
    _busy_until_s: float = -math.inf
    _last_byte_s: float = -math.inf

    def monotonic(self) -> float:
        return self.now_s

    def now_utc_s(self) -> float:
        return self.now_s

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - self.now_s

    def open_anew(self, *, forget_after_s: float = math.inf) -> None:
        """Whatever has come is lost; what has not begun by `forget_after_s` never comes."""
        self.opened_at_s = self.now_s
        late = self.now_s + forget_after_s
        self._coming = [(at_s, byte) for at_s, byte in self._coming if self.now_s < at_s < late]

    def write(self, data: bytes) -> None:
        self._fail_if_lost()
        self._drain()
        assert self.now_s - self._last_byte_s >= T35_S - EPSILON_S, "no silence before a request"
        self.requests.append((self.now_s, data))
        ends_s = self.now_s + len(data) * self.char_s
        for sent in self.meter(data, self):
            self._send(sent, ends_s)

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        self._fail_if_lost()
        self._pass_until(min(due_s, deadline_s))
        first_s = self._coming[0][0] if self._coming else math.inf
        if first_s > max(deadline_s, self.now_s):
            self._pass_until(deadline_s)
            return b""
        self._pass_until(first_s)
        data = self._drain()
        if len(data) < at_least:
            self._pass_until(min(deadline_s, self.now_s + (at_least - len(data)) * self.char_s))
            data += self._drain()
        return data

    def discard(self) -> bytes:
        return self._drain()

    def carry(self, frames: list[Sent]) -> None:
        """Let others use the line from now on."""
        for sent in frames:
            self._send(sent, self.now_s)

    def _send(self, sent: Sent, ends_s: float) -> None:
        at_s = max(ends_s + sent.delay_s, self._busy_until_s)
        whole_s = at_s + len(sent.data) * (self.char_s + sent.gap_s)
        if whole_s > sent.latest_s:
            return
        for byte in sent.data:
            at_s += self.char_s + sent.gap_s
            self._coming.append((at_s, byte))
        self._busy_until_s = at_s
        self._coming.sort(key=lambda coming: coming[0])

    def _pass_until(self, at_s: float) -> None:
        """Time goes on; a port that is lost on the way says so and is open again at once."""
        if self.lost_at_s <= at_s:
            self.now_s = max(self.now_s, self.lost_at_s)
        else:
            self.now_s = max(self.now_s, at_s)
        self._fail_if_lost()

    def _fail_if_lost(self) -> None:
        if self.lost_at_s <= self.now_s:
            self.lost_at_s = math.inf
            self.open_anew()
            raise PortLost("simulated")

    def _drain(self) -> bytes:
        here = [(at_s, byte) for at_s, byte in self._coming if at_s <= self.now_s]
        if here:
            self._last_byte_s = here[-1][0]
        del self._coming[: len(here)]
        return bytes(byte for _, byte in here)


def registers(request: bytes, number: int = 0) -> bytes:
    """What a meter shows: in each pair of registers the address asked and the request's number."""
    count = int.from_bytes(request[4:6])
    return (request[2:4] + number.to_bytes(2)) * (count // 2)


def answer(request: bytes, number: int = 0) -> bytes:
    data = registers(request, number)
    return sealed(request[:2] + bytes([len(data)]) + data)


def refusal(request: bytes, code: int) -> bytes:
    return sealed(bytes([request[0], request[1] | 0x80, code]))


def scripted(*turns: Callable[[bytes], list[Sent]]) -> Meter:
    """A meter that behaves as the turns say, one each, then well."""
    waiting = iter(turns)

    def meter(request: bytes, line: SimulatedLine) -> list[Sent]:
        return next(waiting, well)(request)

    return meter


def well(request: bytes) -> list[Sent]:
    return [Sent(answer(request), 0.04)]


def silent(request: bytes) -> list[Sent]:
    return []


def late_by(delay_s: float) -> Callable[[bytes], list[Sent]]:
    return lambda request: [Sent(answer(request), delay_s)]


def refusing(code: int) -> Callable[[bytes], list[Sent]]:
    return lambda request: [Sent(refusal(request, code), 0.04)]


def exchange_on(
    line: SimulatedLine, unit: int = 7, frames: list[Frame] | None = None, gap_s: float = 0.0
) -> UnitExchange:
    return UnitExchange(
        line,
        unit,
        gap_s=gap_s,
        response_timeout_s=TIMEOUT_S,
        clock=line,
        observe=None if frames is None else frames.append,
        monotonic=line.monotonic,
    )


def is_right(verdict: Answered | Refused, request: ReadRequest) -> bool:
    return verdict == Answered(registers(request.frame))
