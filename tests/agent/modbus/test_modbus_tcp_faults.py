"""Whatever a gateway sends, and whenever: the right values or none, in simulated time."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from agent.driver import ReadError
from agent.modbus.gateway import TcpFrame, TcpGateway
from agent.modbus.tcp import TcpExchange
from agent.modbus.transaction import Answered, ReadRequest, Refused

UNITS = (1, 2)


def registers(unit: int, function: int, address: int, count: int) -> bytes:
    """What the unit shows there: no two units, functions nor addresses hold the same."""
    first = unit << 14 | function << 10 | address
    return struct.pack(f">{count}H", *range(first, first + count))


def truth(request: ReadRequest) -> Answered:
    return Answered(registers(request.unit, request.function, request.address, request.count))


@dataclass(frozen=True)
class Behaviour:
    """What becomes of one request."""

    after_s: float | None
    """When its answer comes; None: never."""
    other_unit: bool = False
    other_function: bool = False
    other_transaction: int = 0
    fewer: int = 0
    code: int | None = None
    twice: bool = False


@dataclass
class Time:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class PlayedGateway(TcpGateway):
    """A gateway without a network: each request meets the next behaviour."""

    def __init__(self, clock: Time, script: list[Behaviour]) -> None:
        super().__init__("played", char_s=11 / 9600, monotonic=clock)
        self._clock = clock
        self._script = iter(script)
        self._last = 0
        self.due: list[tuple[float, TcpFrame]] = []

    def send(self, request: ReadRequest) -> tuple[int, bytes]:
        self._last = self._last % 65535 + 1
        behaviour = next(self._script, Behaviour(0.0))
        if behaviour.after_s is not None:
            frame = self._answer(request, behaviour)
            at_s = self._clock.now_s + behaviour.after_s
            self.due += [(at_s, frame)] * (2 if behaviour.twice else 1)
        return self._last, bytes(12)

    def _answer(self, request: ReadRequest, behaviour: Behaviour) -> TcpFrame:
        unit = 3 - request.unit if behaviour.other_unit else request.unit
        function = 7 - request.function if behaviour.other_function else request.function
        data = registers(unit, function, request.address, request.count - behaviour.fewer)
        pdu = bytes([function, len(data)]) + data
        if behaviour.code is not None:
            pdu = bytes([function | 0x80, behaviour.code])
        return TcpFrame((self._last + behaviour.other_transaction) % 65536, unit, pdu)

    def receive(self, deadline_s: float) -> list[TcpFrame]:
        assert deadline_s < math.inf
        first_s = min((at_s for at_s, _ in self.due), default=math.inf)
        self._clock.now_s = max(self._clock.now_s, min(first_s, deadline_s))
        frames = [frame for at_s, frame in self.due if at_s <= self._clock.now_s]
        self.due = [(at_s, frame) for at_s, frame in self.due if at_s > self._clock.now_s]
        return frames


delays = st.one_of(st.none(), st.just(0.05), st.just(2.0), st.floats(0, 8))
behaviours = st.one_of(
    st.builds(Behaviour, delays, twice=st.booleans()),
    st.builds(Behaviour, delays, other_unit=st.just(True)),
    st.builds(Behaviour, delays, other_function=st.just(True)),
    st.builds(Behaviour, delays, fewer=st.just(1)),
    st.builds(Behaviour, delays, code=st.sampled_from([2, 6, 10, 11])),
    # A gateway that gives an answer the number of a later request cannot be told apart.
    st.builds(Behaviour, delays, other_transaction=st.sampled_from([-1, -2, 300])),
    st.builds(Behaviour, delays, st.booleans(), st.booleans(), code=st.sampled_from([None, 6])),
)
questions = st.tuples(
    st.sampled_from(UNITS), st.integers(0, 90), st.integers(2, 3), st.sampled_from([1, 2])
)


@given(
    st.lists(questions, min_size=1, max_size=8),
    st.lists(behaviours, max_size=16),
    st.sampled_from([0.0, 0.1]),
    st.one_of(st.just(math.inf), st.floats(0.2, 4)),
)
@example([(1, 0, 2, 1), (1, 50, 2, 1)], [Behaviour(2.0), Behaviour(None)], 0.0, math.inf)
def test_no_answer_is_taken_for_another_and_no_wait_goes_past_its_deadline(
    asked: list[tuple[int, int, int, int]], script: list[Behaviour], gap_s: float, budget_s: float
) -> None:
    clock = Time()
    gateway = PlayedGateway(clock, script)
    exchanges = {unit: TcpExchange(gateway, unit, gap_s=gap_s) for unit in UNITS}
    for unit, address, count, attempts in asked:
        request = ReadRequest(unit, 4, address, count)
        deadline_s = clock.now_s + budget_s
        try:
            verdict = exchanges[unit].ask(request, attempts, deadline_s)
        except ReadError:
            verdict = None
        assert clock.now_s <= deadline_s
        assert isinstance(verdict, Refused) or verdict in (None, truth(request))


@given(st.lists(behaviours, max_size=6))
def test_when_the_faults_are_over_the_gateway_is_read_again(script: list[Behaviour]) -> None:
    clock = Time()
    gateway = PlayedGateway(clock, script)
    exchange = TcpExchange(gateway, 1)
    request = ReadRequest(1, 4, 10, 6)
    for _ in range(len(script)):
        try:
            exchange.ask(request, 1)
        except ReadError:
            continue
    assert exchange.ask(request, 1) == truth(request)
