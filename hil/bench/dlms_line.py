"""32 simulated DLMS meters on one paced line, in a process of their own."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.line.serial_port import SerialPort
from hil.line.pty import LineLoop, PtyLine
from hil.line.responder import Responder
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.security import MeterSecurity
from hil.site.installation import NotReady
from wire.clock import SystemClock

METERS: Final = 32
FIRST_ADDRESS: Final = 16
BAUD: Final = 9600
CHAR_BITS: Final = 10
REACTION_S: Final = 0.05
"""From the request's last byte to the answer's first: typical for meters is 20 to 100 ms."""
PASSWORD: Final = b"loadscap"
"""Eight characters, as in the table that the figures are held against."""
ENCRYPTION_KEY: Final = bytes(range(16))
AUTHENTICATION_KEY: Final = bytes(range(16, 32))
CLIENT_TITLE: Final = b"LSA\x00\x00\x00\x00\x01"
_PATIENCE_S: Final = 20.0

Kind = Literal["lls", "gmac"]


def addresses() -> list[str]:
    """Server addresses of one byte each."""
    return [str(FIRST_ADDRESS + number) for number in range(METERS)]


@contextmanager
def dlms_line(link: Path, kind: Kind) -> Iterator[None]:
    """The line, from when it is there until the block ends, with meters of one kind."""
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(str(link), kind), daemon=True
    )
    process.start()
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while not link.exists():
            if time.monotonic() > until_s or not process.is_alive():
                raise NotReady(f"{link}: the simulated line did not come up")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.join()


def _serve(link: str, kind: Kind) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    line = PtyLine(Path(link), _BUSES[kind](), baud=BAUD, char_bits=CHAR_BITS)
    LineLoop([line]).run(stop)


def _with_password() -> Responder:
    meters = {
        address: DlmsMeter(Climbing(f"LS{int(address):07}"), password=PASSWORD)
        for address in addresses()
    }
    return DlmsBus(meters, SystemClock(), REACTION_S)


def _with_gmac() -> Responder:
    meters = {
        address: DlmsMeter(
            Climbing(f"LS{int(address):07}"),
            security=MeterSecurity(ENCRYPTION_KEY, AUTHENTICATION_KEY),
        )
        for address in addresses()
    }
    return DlmsBus(meters, SystemClock(), REACTION_S)


_BUSES: Final[dict[Kind, Callable[[], Responder]]] = {"lls": _with_password, "gmac": _with_gmac}


class CountingPort(SerialPort):
    """A serial port that counts what goes over it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, BAUD)
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.sent = self.heard = self.turnarounds = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.turnarounds += 1
        super().write(data)

    def read(self, at_least: int, deadline_s: float, due_s: float = float("-inf")) -> bytes:
        data = super().read(at_least, deadline_s, due_s)
        self.heard += len(data)
        return data

    @property
    def formula_s(self) -> float:
        """What the wire and the meters take for what was counted: nothing else takes any time."""
        return (self.sent + self.heard) * CHAR_BITS / BAUD + self.turnarounds * REACTION_S
