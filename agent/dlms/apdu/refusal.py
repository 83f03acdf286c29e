"""How a meter says no: exception-response, confirmed-service-error, data-access-result.

None of these is protected in a ciphered association. That is sound: a refusal
is never data, and whoever can forge one can cut the line as well.
"""

from __future__ import annotations

from agent.dlms.constants import (
    ACTION_RESULTS,
    CONFIRMED_SERVICE_ERRORS,
    CONFIRMED_SERVICES,
    DATA_ACCESS_RESULTS,
    DECIPHERING_ERROR,
    INVOCATION_COUNTER_ERROR,
    SERVICE_ERRORS,
    STATE_ERRORS,
    Apdu,
)
from agent.dlms.errors import CounterBehind, ServiceRefused


def refuse_errors(apdu: bytes) -> None:
    """Raises ServiceRefused or CounterBehind if the answer is a refusal; IEC 62056-5-3, 6.5."""
    if apdu[:1] == bytes([Apdu.EXCEPTION_RESPONSE]) and len(apdu) >= 3:
        _refuse_exception(apdu)
    if apdu[:1] == bytes([Apdu.CONFIRMED_SERVICE_ERROR]):
        raise ServiceRefused(f"the meter answered with {service_error(apdu)}")


def _refuse_exception(apdu: bytes) -> None:
    message = (
        f"the meter answered with an exception: {named(STATE_ERRORS, apdu[1])}, "
        f"{named(SERVICE_ERRORS, apdu[2])}"
    )
    if apdu[2] == INVOCATION_COUNTER_ERROR:
        expected = int.from_bytes(apdu[3:7], "big") if len(apdu) >= 7 else None
        told = "" if expected is None else f"; it expects {expected} or more"
        raise CounterBehind(f"{message}{told}; read its counter as the public client", expected)
    if apdu[2] == DECIPHERING_ERROR:
        raise CounterBehind(
            f"{message}; the counter is behind what the meter has seen, or the keys or the "
            "client's system title differ: read its counter as the public client, check the keys"
        )
    raise ServiceRefused(message)


def service_error(apdu: bytes) -> str:
    """What a confirmed-service-error says: the service, the kind of error and the error."""
    if len(apdu) < 4:
        return f"a confirmed-service-error {apdu.hex()}"
    kind, codes = CONFIRMED_SERVICE_ERRORS.get(apdu[2], (f"kind {apdu[2]}", {}))
    service = named(CONFIRMED_SERVICES, apdu[1])
    return f"a confirmed-service-error to {service}: {kind}, {named(codes, apdu[3])}"


def is_deciphering_error(apdu: bytes) -> bool:
    """Whether a confirmed-service-error says that the meter could not decipher."""
    return apdu[:1] == bytes([Apdu.CONFIRMED_SERVICE_ERROR]) and apdu[2:4] == b"\x00\x06"


def result_name(result: int) -> str:
    """Name of a data-access result."""
    return named(DATA_ACCESS_RESULTS, result)


def action_result_name(result: int) -> str:
    """Name of the result of an ACTION."""
    return named(ACTION_RESULTS, result)


def named(names: dict[int, str], code: int) -> str:
    """Name and number of a code, such as `object-undefined (4)`."""
    return f"{names.get(code, 'unknown')} ({code})"
