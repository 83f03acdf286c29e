"""A carrier from the agent's client straight into a simulated meter's application: no link."""

from __future__ import annotations

from hil.meters.dlms.application import Application
from hil.meters.dlms.meter import DlmsMeter
from tests.agent.dlms.test_dlms_bench_meters import StoppedClock

CLIENT_SAP = 1


class Direct:
    """A carrier straight into a meter's application, which keeps what was asked."""

    longest_answer = 1 << 16

    def __init__(self, meter: DlmsMeter) -> None:
        self._application = Application(meter, StoppedClock())
        self._stream: list[bytes] = []
        self.asked: list[bytes] = []

    def open(self) -> None:
        self._application.reset()

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        self.asked.append(apdu)
        first, *self._stream = self.all_answers(apdu)
        return first

    def all_answers(self, apdu: bytes) -> list[bytes]:
        return self._application.serve(CLIENT_SAP, apdu)

    def more(self, what: str) -> bytes:
        return self._stream.pop(0)

    def close(self) -> None:
        self._application.reset()
