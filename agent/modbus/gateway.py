"""A Modbus TCP gateway's connection: frames in, frames out, and which answers it still owes.

pymodbus connects, frames and codes. What an answer is worth is decided by
`agent.modbus.tcp`.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.line.port import PortLost
from agent.modbus.transaction import LATE_WINDOW_S, READ_HOLDING, READ_INPUT, ReadRequest, Reason

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient

_CONNECT_S: Final = 3.0
_UNHEARD_S: Final = 5.0
"""A gateway that does not even acknowledge bytes for so long is gone."""
_LONGEST_WINDOW_S: Final = 10.0
_MOST_OWED: Final = 64
_LONGEST_FRAME: Final = 254
"""Unit and 253 bytes of function and data (Modbus application protocol 1.1b3, 4.1)."""
_SMOOTHING: Final = 1 / 8


@dataclass(frozen=True, slots=True)
class TcpFrame:
    """One frame from a gateway, its header taken apart."""

    transaction: int
    unit: int
    pdu: bytes


@dataclass(slots=True)
class _Owed:
    """An answer that did not come in time."""

    rejected: Counter[Reason]
    asked_at_s: float
    late_from_s: float


class TcpGateway:
    """One connection to `host`, shared by its units; stands where a serial port would.

    It opens at its first use. When it is lost it closes, and the next use
    opens it anew; when to try again is the line's decision. `char_s` is the
    time of one character on the line behind the gateway. Used by one thread.
    """

    def __init__(
        self,
        host: str,
        port: int = 502,
        *,
        char_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.char_s = char_s
        self.monotonic = monotonic
        """What deadlines count in, s."""
        self.opened_at_s = -math.inf
        """Monotonic instant of the last open."""
        self._host = host
        self._port = port
        self._client: ModbusTcpClient | None = None
        self._transaction = 0
        self._buffer = b""
        self._owed: dict[int, _Owed] = {}
        self._slowest_s = 0.0

    @property
    def path(self) -> str:
        """Where it is, as configured."""
        return f"{self._host}:{self._port}"

    def open(self) -> None:
        """Connect; raises PortLost. pymodbus is needed from here on, not before."""
        self.close()
        try:
            from pymodbus.client import ModbusTcpClient
        except ImportError as error:
            raise PortLost(
                f"{self.path}: expected pymodbus for a modbus-tcp line, got: {error}; install "
                'it with pip install "loadscape[agent]"'
            ) from error
        # What pymodbus would log is raised here, and told once.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        client = ModbusTcpClient(self._host, port=self._port, timeout=_CONNECT_S, retries=0)
        client.connect()  # type: ignore[no-untyped-call]
        if client.socket is None:
            raise PortLost(
                f"{self.path}: expected a gateway that takes a connection within "
                f"{_CONNECT_S:.0f} s, got none; check address, cable and firewall, and whether "
                "the gateway allows one more client"
            )
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Without it a gateway that lost its power would look like units that are silent.
        client.socket.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_UNHEARD_S * 1000)
        )
        self._client = client
        self.opened_at_s = self.monotonic()

    def close(self) -> None:
        """Let go of the connection; the next use opens it again. May be called twice."""
        client, self._client = self._client, None
        self._buffer = b""
        # No answer to an old connection's question comes over a new one.
        self._owed.clear()
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    def send(self, request: ReadRequest) -> tuple[int, bytes]:
        """Send a request; its transaction number and its bytes. Raises PortLost."""
        from pymodbus.exceptions import ConnectionException
        from pymodbus.pdu.register_message import (
            ReadHoldingRegistersRequest,
            ReadInputRegistersRequest,
        )

        client = self._opened()
        self._transaction = self._transaction % 65535 + 1
        kinds = {READ_HOLDING: ReadHoldingRegistersRequest, READ_INPUT: ReadInputRegistersRequest}
        pdu = kinds[request.function](
            address=request.address,
            count=request.count,
            dev_id=request.unit,
            transaction_id=self._transaction,
        )
        data = client.framer.buildFrame(pdu)
        try:
            sent = client.send(data)
        except (ConnectionException, OSError) as error:
            raise self._lost("to send", str(error)) from error
        if sent != len(data):
            raise self._lost(f"to send {len(data)} bytes", f"{sent} sent")
        return self._transaction, data

    def receive(self, deadline_s: float) -> list[TcpFrame]:
        """The frames that are whole as soon as bytes come, or none at the deadline.

        Raises PortLost, also when what comes is not Modbus TCP.
        """
        from pymodbus.exceptions import ConnectionException

        client = self._opened()
        client.comm_params.timeout_connect = max(0.0, deadline_s - self.monotonic())
        try:
            self._buffer += client.recv(None)
        except (ConnectionException, OSError) as error:
            raise self._lost("an open connection", str(error)) from error
        frames = []
        while self._buffer:
            header = self._buffer[:6]
            if len(header) == 6 and (any(header[2:4]) or not _sensible(header[4:])):
                # Where the next frame would begin nobody knows.
                raise self._lost("the header of a Modbus TCP frame", header.hex(" "))
            length, unit, transaction, pdu = client.framer.decode(self._buffer)
            if not length:
                break
            frames.append(TcpFrame(transaction, unit, pdu))
            self._buffer = self._buffer[length:]
        return frames

    # --- what is still to come --------------------------------------------------------------

    def owe(self, transaction: int, rejected: Counter[Reason], asked_at_s: float) -> None:
        """No answer came in time; when it comes after all it is counted in `rejected`."""
        self._owed[transaction] = _Owed(rejected, asked_at_s, self.monotonic())
        while len(self._owed) > _MOST_OWED:
            del self._owed[next(iter(self._owed))]

    def settle(self, frame: TcpFrame) -> bool:
        """Whether `frame` is an answer that was owed; it is counted as late."""
        owed = self._owed.pop(frame.transaction, None)
        if owed is None:
            return False
        owed.rejected["late"] += 1
        self.learn(self.monotonic() - owed.asked_at_s)
        return True

    def learn(self, answered_after_s: float) -> None:
        """Take in how long an answer took; the slowest is forgotten slowly."""
        more_s = answered_after_s - self._slowest_s
        self._slowest_s += more_s if more_s > 0 else _SMOOTHING * more_s

    def free_at_s(self) -> float:
        """When the gateway is done with what is owed, at the latest; -inf if with everything."""
        window_s = min(_LONGEST_WINDOW_S, max(LATE_WINDOW_S, 2 * self._slowest_s))
        return max((owed.late_from_s + window_s for owed in self._owed.values()), default=-math.inf)

    def _opened(self) -> ModbusTcpClient:
        if self._client is None:
            self.open()
        assert self._client is not None
        return self._client

    def _lost(self, expected: str, came: str) -> PortLost:
        self.close()
        return PortLost(
            f"{self.path}: expected {expected}, got: {came}; the connection is closed, check the "
            "gateway's power and network, and how many clients it allows"
        )


def _sensible(length: bytes) -> bool:
    """Whether so many bytes can follow: unit and function at least, a whole frame at most."""
    return 2 <= int.from_bytes(length, "big") <= _LONGEST_FRAME
