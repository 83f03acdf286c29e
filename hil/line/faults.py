"""Lines that misbehave: a responder around a responder, one fault per answered request.

Each fault takes the right answers to one request and returns what comes over
the line instead. The evidence for each is in the field reports of Modbus
masters: late answers, echoes of the adapter, noise when a driver lets go of
the bus, meters that answer in another's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ext.checksum import crc16_modbus
from hil.line.responder import Answer, Responder
from hil.line.uart import Uart, misread

Fault = Callable[[bytes, list[Answer]], list[Answer]]
"""Takes a request and its right answers; returns what the line carries instead."""


class Faulty:
    """`responder` on a line where the next answers suffer `faults`, one each, then none."""

    def __init__(self, responder: Responder, faults: Iterable[Fault]) -> None:
        self._responder = responder
        self._faults = iter(faults)

    def receive(self, data: bytes) -> list[Answer]:
        answers = self._responder.receive(data)
        if not answers:
            return answers
        return next(self._faults, well)(data, answers)


def only(concerns: Callable[[bytes], bool], fault: Fault) -> Fault:
    """`fault` for the requests that it concerns, none for the others."""
    return lambda request, answers: fault(request, answers) if concerns(request) else answers


def well(request: bytes, answers: list[Answer]) -> list[Answer]:
    """No fault."""
    return answers


def dead(request: bytes, answers: list[Answer]) -> list[Answer]:
    """Nothing comes."""
    return []


def bad_crc(request: bytes, answers: list[Answer]) -> list[Answer]:
    """One bit of a value is wrong."""
    return _changed(answers, lambda data: data[:4] + bytes([data[4] ^ 1]) + data[5:])


def half(request: bytes, answers: list[Answer]) -> list[Answer]:
    """The answer breaks off in the middle."""
    return _changed(answers, lambda data: data[: len(data) // 2])


def late(by_s: float) -> Fault:
    """The answer comes `by_s` later than it should."""

    def fault(request: bytes, answers: list[Answer]) -> list[Answer]:
        return [replace(answer, delay_s=answer.delay_s + by_s) for answer in answers]

    return fault


def other_function(request: bytes, answers: list[Answer]) -> list[Answer]:
    """A well-formed answer to function 3 where 4 was asked, and the other way round."""
    return _changed(answers, lambda data: _sealed(bytes([data[0], data[1] ^ 7]) + data[2:-2]))


def other_unit(request: bytes, answers: list[Answer]) -> list[Answer]:
    """A neighbour answers in its own name."""
    return _changed(answers, lambda data: _sealed(bytes([data[0] % 247 + 1]) + data[1:-2]))


def other_unit_first(request: bytes, answers: list[Answer]) -> list[Answer]:
    """A neighbour answers, then, right behind, the meter that was asked."""
    return other_unit(request, answers) + answers


def other_unit_before(by_s: float) -> Fault:
    """A neighbour answers, then, `by_s` later, the meter that was asked."""
    return lambda request, answers: [*other_unit(request, answers), *late(by_s)(request, answers)]


def fewer_registers(request: bytes, answers: list[Answer]) -> list[Answer]:
    """One register less than asked for, well formed."""
    return _changed(answers, lambda data: _sealed(data[:2] + bytes([data[2] - 2]) + data[3:-4]))


def more_registers(request: bytes, answers: list[Answer]) -> list[Answer]:
    """Two registers more than asked for, well formed."""
    return _changed(
        answers, lambda data: _sealed(data[:2] + bytes([data[2] + 4]) + data[3:-2] + bytes(4))
    )


def echo(request: bytes, answers: list[Answer]) -> list[Answer]:
    """The adapter hears its own request, glued to the answer."""
    return [Answer(request), *answers]


def echo_apart(by_s: float) -> Fault:
    """The adapter hears its own request, the answer comes `by_s` after it."""
    return lambda request, answers: [Answer(request), *late(by_s)(request, answers)]


def before(noise: bytes) -> Fault:
    """`noise` comes right before the answer."""
    return lambda request, answers: _changed(answers, lambda data: noise + data)


def after(noise: bytes) -> Fault:
    """`noise` comes right after the answer."""
    return lambda request, answers: _changed(answers, lambda data: data + noise)


def garbage(request: bytes, answers: list[Answer]) -> list[Answer]:
    """As many bytes as the answer has, none of them right."""
    return _changed(answers, lambda data: bytes((at * 89 + 23) % 256 for at in range(len(data))))


def all_ones(request: bytes, answers: list[Answer]) -> list[Answer]:
    """Every bit of every value is set, as meters do that have no value to tell."""
    return _changed(
        answers, lambda data: _sealed(data[:3] + b"\xff" * data[2]) if data[1] < 0x80 else data
    )


def hole(for_s: float) -> Fault:
    """The answer pauses in its middle; for long enough, it is half and a stale rest."""

    def fault(request: bytes, answers: list[Answer]) -> list[Answer]:
        torn = []
        for answer in answers:
            middle = len(answer.data) // 2
            torn.append(replace(answer, data=answer.data[:middle]))
            torn.append(Answer(answer.data[middle:], answer.delay_s + for_s))
        return torn

    return fault


def trickle(gap_s: float) -> Fault:
    """The answer comes byte by byte with `gap_s` between two."""

    def fault(request: bytes, answers: list[Answer]) -> list[Answer]:
        return [
            Answer(bytes([byte]), answer.delay_s + at * gap_s)
            for answer in answers
            for at, byte in enumerate(answer.data)
        ]

    return fault


def exception(code: int) -> Fault:
    """The meter refuses with `code`."""
    return lambda request, answers: _changed(
        answers, lambda data: _sealed(bytes([data[0], data[1] | 0x80, code]))
    )


def misread_as(reader: Uart, meter: Uart) -> Fault:
    """The answer as a reader with other serial settings than the meter's hears it."""
    return lambda request, answers: _changed(answers, lambda data: misread(data, meter, reader))


def flood(for_s: float) -> Fault:
    """The bus hangs low: zeros for `for_s` instead of an answer."""

    def fault(request: bytes, answers: list[Answer]) -> list[Answer]:
        return [Answer(b"\0", at * 0.001) for at in range(round(for_s / 0.001))]

    return fault


def _changed(answers: list[Answer], change: Callable[[bytes], bytes]) -> list[Answer]:
    return [replace(answer, data=change(answer.data)) for answer in answers]


def _sealed(body: bytes) -> bytes:
    return body + crc16_modbus(body).to_bytes(2, "little")
